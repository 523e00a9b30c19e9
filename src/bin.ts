#!/usr/bin/env -S MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072 node --max-semi-space-size=8
/** The entry of the command line. Written so that an old Node can read it and say what is wrong (import, no
 * syntax of later years), before anything that needs a newer one is loaded. */
import { setFlagsFromString } from 'node:v8';

// The old generation is collected when it has grown by 60 %, not when it has doubled and more; with the young one at half
// of its usual size (above, as in Dockerfile and systemd unit, since V8 takes that at its start only) the peak of a backlog
// is lower by a third, at the same rate. The variables above are glibc's: one arena for all threads, since there is little
// that they allocate at once, and what is freed at its end goes back; that is 15 MB. Other allocators ignore them.
// Rejected: --optimize-for-size, which doubles the CPU of a page.
setFlagsFromString('--heap-growing-percent=60');

const major = Number(process.versions.node.split('.')[0]);

if (major < 24) {
  process.stderr.write(
    `wa-replica needs Node 24 or newer, this is ${process.versions.node}; in a checkout, \`npm run\` and \`npx wa-replica\` use the Node that comes with it\n`,
  );
  process.exit(1);
} else {
  // As PID 1 a signal without a handler is lost, and loading takes a moment. Nothing is touched yet: the daemon has
  // ended well, any other command has not done what it should.
  const early = () => process.exit(process.argv[2] === 'run' ? 0 : 1);
  const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'];
  for (const signal of signals) process.on(signal, early);
  import('./main.ts').then((main) => {
    const done = main.main();
    for (const signal of signals) process.off(signal, early);
    return done;
  });
}
