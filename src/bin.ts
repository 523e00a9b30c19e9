#!/usr/bin/env node
/** The entry of the command line. Written so that an old Node can read it and say what is wrong (import, no
 * syntax of later years), before anything that needs a newer one is loaded. */
const major = Number(process.versions.node.split('.')[0]);

if (major < 24) {
  process.stderr.write(
    `wa-replica needs Node 24 or newer, this is ${process.versions.node}; in a checkout, \`npm run\` and \`npx wa-replica\` use the Node that comes with it\n`,
  );
  process.exit(1);
} else {
  import('./main.ts').then((main) => main.main());
}

export {};
