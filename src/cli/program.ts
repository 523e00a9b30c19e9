import { Command, Help } from 'commander';
import { SETTINGS, type Setting } from '../config/settings.ts';
import { VERSION } from '../version.ts';
import { demoCommand } from './demo.ts';
import { doctorCommand } from './doctor.ts';
import { eraseCommand } from './erase.ts';
import { gapsCommand } from './gaps.ts';
import { linkCommand } from './link.ts';
import { mediaCommand } from './media.ts';
import { migrateCommand } from './migrate.ts';
import { quarantineCommand } from './quarantine.ts';
import { resyncCommand } from './resync.ts';
import { runCommand } from './run.ts';
import { searchCommand } from './search.ts';
import { simulateCommand } from './simulate.ts';
import { statusCommand } from './status.ts';
import { syncCommand } from './sync.ts';
import { tailCommand } from './tail.ts';
import type { Terminal } from './terminal.ts';
import { verifyCommand } from './verify.ts';
import { webhookCommand } from './webhook.ts';

/** The command line: one file per command. */
export function createProgram(terminal: Terminal): Command {
  const program = new Command('wa-replica')
    .description("Replicates a company's WhatsApp (WhatsApp Use API) into its own Postgres.")
    .version(VERSION)
    .addHelpText(
      'after',
      `\nSettings (environment variables, or a .env file; secrets also as NAME_FILE):\n${settingsHelp(terminal.stdout.columns)}`,
    );
  const commands = [
    runCommand(terminal),
    syncCommand(terminal),
    migrateCommand(terminal),
    statusCommand(terminal),
    doctorCommand(terminal),
    resyncCommand(terminal),
    verifyCommand(terminal),
    gapsCommand(terminal),
    tailCommand(terminal),
    searchCommand(terminal),
    linkCommand(terminal),
    mediaCommand(terminal),
    quarantineCommand(terminal),
    eraseCommand(terminal),
    webhookCommand(terminal),
    demoCommand(terminal),
    simulateCommand(),
  ];
  for (const command of commands) program.addCommand(command);
  for (const command of [program, ...commands.filter((one) => one.commands.length > 0)])
    command.helpCommand(false).addCommand(helpCommand(command));
  for (const command of [program, ...program.commands, ...commands.flatMap((one) => one.commands)]) {
    command
      .showHelpAfterError('(see --help)')
      .exitOverride()
      .configureOutput({
        writeOut: (text) => terminal.stdout.write(text),
        writeErr: (text) => terminal.stderr.write(text),
      });
  }
  return program;
}

/** `help`, and of which command: Commander's own names no word that is none, and knows of no command in a command. */
function helpCommand(of: Command): Command {
  return new Command('help')
    .description('display help for command')
    .argument('[command...]')
    .action(async (words: string[]) => {
      let command = of;
      for (const word of words) {
        const next = command.commands.find((one) => one.name() === word);
        // Says what is wrong with it, and what may be meant.
        if (next === undefined && command.commands.length > 0)
          await command.parseAsync([word], { from: 'user' });
        command = next ?? command;
      }
      command.help();
    });
}

/** @param columns of the terminal; elsewhere a setting is a line, for grep. */
function settingsHelp(columns = Number.POSITIVE_INFINITY): string {
  const help = new Help();
  help.prepareContext({ helpWidth: columns });
  const names = Object.keys(SETTINGS);
  const width = Math.max(...names.map((name) => name.length));
  return Object.entries(SETTINGS as Record<string, Setting>)
    .map(([name, { default: value, help: text }]) =>
      help.formatItem(name, width, value === undefined ? text : `${text} (${value})`, help),
    )
    .join('\n');
}
