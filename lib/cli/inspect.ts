import type { Command } from 'commander';
import type { ModelReport } from '../app/stages/inspect-stage.js';
import type { KeyReport } from '../nn/key-report.js';
import { formatBytes, formatCount } from '../util/format.js';
import { addJsonOption } from './options.js';
import { columns } from './output.js';
import { action } from './run-command.js';

interface Flags {
  tensors?: boolean;
  json?: boolean;
}

export function addInspect(program: Command): void {
  const command = program
    .command('inspect')
    .argument('<model>', 'model directory, "shapes" or "tiny"')
    .summary('describe a model directory')
    .description(
      'Describes a model directory without loading it: architecture, parameters by part, precision, ' +
        'missing and extra keys, memory needs.',
    )
    .option('--tensors', 'list every tensor with dtype and shape');
  addJsonOption(command)
    .addHelpText('after', '\nExample:\n  srum inspect models/BAGEL-7B-MoT')
    .action(
      action<Flags>(async (_context, flags, model) => {
        const { inspectModel } = await import('../app/stages/inspect-stage.js');
        const report = inspectModel(model);
        const { tensors, ...rest } = report;
        return {
          json: flags.tensors ? report : { ...rest, tensor_count: tensors.length },
          text: describe(report, flags.tensors === true),
          exitCode: report.loadable && report.missing_files.length === 0 ? 0 : 1,
        };
      }),
    );
}

function describe(report: ModelReport, withTensors: boolean): string {
  const { llm, vit, vae } = report.architecture;
  const { images, memory, keys } = report;
  const total = Object.values(report.parameters).reduce((a, b) => a + b, 0);
  const sections = [
    columns([
      ['directory', report.dir],
      ['weights', report.weights_file],
      ['fingerprint', report.fingerprint.slice(0, 16)],
      [
        'decoder',
        `${llm.layer_module}, ${llm.num_hidden_layers} layers, width ${llm.hidden_size}, ` +
          `${llm.num_attention_heads} heads (${llm.num_key_value_heads} for keys), ${formatCount(llm.vocab_size)} tokens`,
      ],
      [
        'vision',
        `${vit.num_hidden_layers} layers, width ${vit.hidden_size}, patches of ${images.patch} px, up to ${images.looks_up_to} px`,
      ],
      [
        'autoencoder',
        `${vae.z_channels} channels, 1/${vae.downsample} of the size; latent tokens of ${images.latent_token} px, up to ${images.draws_up_to} px`,
      ],
    ]),
    `Parameters: ${formatCount(total)}\n${columns(
      Object.entries(report.parameters).map(([part, n]) => [`  ${part}`, formatCount(n)]),
    )}`,
    `Precision: ${Object.entries(report.dtypes)
      .map(([dtype, n]) => `${dtype} (${formatCount(n)} values)`)
      .join(', ')}`,
    `Memory (without activations)\n${columns([
      ['  to run, bf16', formatBytes(memory.weights_bfloat16)],
      ['  to run, fp32', formatBytes(memory.weights_float32)],
      ['  to train all of it, fp32 AdamW', formatBytes(memory.training_float32)],
      ['  cache per 1000 tokens, bf16', formatBytes(1000 * memory.kv_cache_per_token_bfloat16)],
    ])}`,
    `Keys: ${report.tensors.length} tensors; ${keys.missing.length} missing, ${keys.unexpected.length} extra, ${keys.misshapen.length} of the wrong shape`,
  ];
  const list = (title: string, lines: string[]): void => {
    if (lines.length > 0) sections.push([title, ...lines.map((line) => `  ${line}`)].join('\n'));
  };
  const differences = (of: KeyReport, where: string): void => {
    list(`Missing${where}`, of.missing);
    list(`Extra${where}`, of.unexpected);
    list(
      `Wrong shape${where}`,
      of.misshapen.map((m) => `${m.key}: [${m.found}] instead of [${m.expected}]`),
    );
  };
  differences(keys, '');
  if (report.autoencoder_keys) differences(report.autoencoder_keys, ' in the autoencoder');
  list(
    'Missing files',
    report.missing_files.map(({ part, expected }) => `${part}: ${expected}`),
  );
  if (withTensors) {
    const rows = report.tensors.map(
      ({ key, dtype, shape }) => [key, `${dtype} [${shape.join(', ')}]`] as [string, string],
    );
    sections.push(columns(rows));
  }
  return sections.join('\n\n');
}
