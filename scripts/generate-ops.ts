import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadAddon } from '../lib/native/load-addon.js';
import type { Native, OverloadSchema, ParamKind, ParamSchema } from '../lib/torch/native.js';
import { writeFileAtomic } from '../lib/util/files.js';

// Writes lib/torch/generated/aten.ts: the types of every ATen operator, from the schemas of the LibTorch in use.

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const target = join(root, 'lib', 'torch', 'generated', 'aten.ts');

const types: Record<ParamKind, string> = {
  Tensor: 'Tensor',
  'Tensor[]': 'readonly Tensor[]',
  'Tensor?[]': 'readonly (Tensor | null)[]',
  int: 'number',
  'int[]': 'readonly number[]',
  float: 'number',
  'float[]': 'readonly number[]',
  bool: 'boolean',
  'bool[]': 'readonly boolean[]',
  Scalar: 'Scalar',
  'Scalar[]': 'readonly Scalar[]',
  str: 'string',
  'str[]': 'readonly string[]',
  ScalarType: 'DType',
  Layout: 'string',
  MemoryFormat: 'string',
  Device: 'Device',
  Generator: 'Generator',
  unsupported: 'never',
};
const resultTypes: Partial<Record<ParamKind, string>> = {
  'Tensor[]': 'Tensor[]',
  'int[]': 'number[]',
  Scalar: 'number',
  unsupported: 'unknown',
};

/** Same rule as lib/torch/operators.ts, which cannot be imported before its types exist. */
const camelCase = (name: string): string =>
  name.replace(/(?<=[A-Za-z0-9])_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

const reserved = new Set([
  'in',
  'function',
  'var',
  'new',
  'default',
  'this',
  'with',
  'arguments',
  'eval',
  'let',
]);
const identifier = (name: string): string => (reserved.has(name) ? `${name}_` : camelCase(name));

function typeOf(param: ParamSchema): string {
  const base = types[param.kind];
  const single = param.fixedLength > 0 && param.kind === 'int[]' ? `number | ${base}` : base;
  return param.optional ? `${single} | null` : single;
}

function resultOf(schema: OverloadSchema): string {
  const of = (kind: ParamKind) => resultTypes[kind] ?? types[kind];
  if (schema.returns.length === 0) return 'void';
  return schema.returns.length === 1
    ? of(schema.returns[0])
    : `[${schema.returns.map(of).join(', ')}]`;
}

const option = (param: ParamSchema): string =>
  `${camelCase(param.name)}${param.hasDefault || param.optional ? '?' : ''}: ${typeOf(param)}`;
const optionsOf = (params: ParamSchema[]): string[] => {
  if (params.length === 0) return [];
  const needed = params.some((param) => !param.hasDefault && !param.optional);
  return [`options${needed ? '' : '?'}: { ${params.map(option).join('; ')} }`];
};

/** Every overload in two spellings: defaults by position, or defaults by name. */
function signatures(schema: OverloadSchema, skipSelf: boolean): string[] {
  const usable = schema.params.filter((param) => param.kind !== 'unsupported');
  const params = skipSelf ? usable.slice(1) : usable;
  const positional = params.filter((param) => !param.keywordOnly);
  const keywords = params.filter((param) => param.keywordOnly);
  const required = positional.filter((param) => !param.hasDefault);
  const defaulted = positional.filter((param) => param.hasDefault);
  const result = resultOf(schema);
  const plain = (param: ParamSchema, mayOmit: boolean) =>
    `${identifier(param.name)}${mayOmit ? '?' : ''}: ${typeOf(param)}`;
  const list = [
    `(${[...required.map((param) => plain(param, false)), ...optionsOf([...defaulted, ...keywords])].join(', ')}): ${result}`,
  ];
  const trailing = optionsOf(keywords);
  const mayOmit = trailing.length === 0 || trailing[0].startsWith('options?');
  if (defaulted.length > 0)
    list.push(
      `(${[...required.map((param) => plain(param, false)), ...defaulted.map((param) => plain(param, mayOmit)), ...trailing].join(', ')}): ${result}`,
    );
  return list;
}

function main(): void {
  const native = loadAddon() as Native;
  const functions: string[] = [];
  const methods: string[] = [];
  let operators = 0;
  for (const qualified of native.listOperators()) {
    const [library, name] = qualified.split('::');
    if (library !== 'aten') continue;
    const key = JSON.stringify(camelCase(name));
    const schemas = native
      .schemasOf(qualified)
      .filter((schema) =>
        schema.params.every(
          (param) => param.kind !== 'unsupported' || param.hasDefault || param.optional,
        ),
      );
    if (schemas.length === 0) continue;
    operators++;
    const asFunction = new Set(schemas.flatMap((schema) => signatures(schema, false)));
    functions.push(...[...asFunction].map((signature) => `  ${key}${signature};`));
    const asMethod = new Set(
      schemas
        .filter((schema) => schema.params[0]?.name === 'self' && schema.params[0].kind === 'Tensor')
        .flatMap((schema) => signatures(schema, true)),
    );
    methods.push(...[...asMethod].map((signature) => `  ${key}${signature};`));
  }
  const text = [
    `// Generated from the operator schemas of LibTorch ${native.runtimeInfo().builtFor}: ${operators} operators. Not in version control.`,
    "import type { Device, DType } from '../dtype.js';",
    "import type { Generator } from '../random.js';",
    "import type { Tensor } from '../tensor.js';",
    '',
    'type Scalar = number | bigint | boolean;',
    '',
    'export interface AtenOperators {',
    ...functions,
    '}',
    '',
    'export interface TensorMethods {',
    ...methods,
    '}',
    '',
  ].join('\n');
  mkdirSync(dirname(target), { recursive: true });
  writeFileAtomic(target, text);
  console.log(`${operators} operators typed`);
}

main();
