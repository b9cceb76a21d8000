// postern config check | show | explain KEY | reference
import { parseDocument } from 'yaml';
import { formatProblem, loadConfig } from '../config/load.ts';
import { nearest } from '../config/nearest.ts';
import { documentAll, explainKey, renderJsonSchema, renderReference } from '../config/render-docs.ts';
import { builtInPlugins, checkConfig } from '../gateway.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';

export async function configCheck(context: CliContext): Promise<ExitCode> {
  const config = loadConfig(context.configFile, context.workingFolder);
  const { problems, entries } = await checkConfig(config, context);
  if (problems.length > 0) {
    print(context, { valid: false, problems }, () => problems.map(formatProblem).join('\n'));
    return exitCodes.config;
  }
  print(context, { valid: true, chain: entries }, () => `${config.file} is valid.\nChain: ${entries.join(' → ')}`);
  return exitCodes.ok;
}

export function configShow(context: CliContext): ExitCode {
  const config = loadConfig(context.configFile, context.workingFolder);
  const document = parseDocument('{}');
  print(context, config.options, () => {
    document.contents = document.createNode(config.options) as typeof document.contents;
    return `# ${config.file}, with defaults; times in ms, sizes in bytes\n${document.toString()}`;
  });
  return exitCodes.ok;
}

export function configExplain(context: CliContext, key: string): ExitCode {
  const found = explainKey(key, builtInPlugins());
  if (found.length === 0) {
    const near = nearest(
      key,
      documentAll(builtInPlugins()).flatMap(entry => [
        entry.key.replaceAll('[]', ''),
        entry.key.split('.').at(-1) ?? '',
      ]),
    );
    throw new UsageError(`Unknown key '${key}'${near ? `, did you mean '${near}'?` : ''}`, exitCodes.negative);
  }
  print(context, found, () =>
    found
      .map(
        entry =>
          `${entry.key}\n  ${entry.doc}\n  type: ${entry.type.replaceAll('\\|', '|').replaceAll('`', '')}\n  ${entry.required ? 'required' : `default: ${entry.default ?? 'none'}`}`,
      )
      .join('\n\n'),
  );
  return exitCodes.ok;
}

export function configReference(context: CliContext): ExitCode {
  const plugins = builtInPlugins();
  context.stdout.write(context.json ? renderJsonSchema(plugins) : renderReference(plugins));
  return exitCodes.ok;
}
