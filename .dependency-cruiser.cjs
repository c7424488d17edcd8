// The floors of the house, from the bottom; floors in one row do not know each other's inside but stand equally high.
const floors = [
  ['util'],
  ['native'],
  ['torch'],
  ['nn', 'optim', 'distributed'],
  ['models'],
  ['data'],
  ['generate'],
  ['reward'],
  ['train'],
  ['eval'],
  ['app'],
  ['cli'],
];

const upward = floors.slice(0, -1).map((names, level) => ({
  name: `no-import-upward-from-${names.join('-')}`,
  comment: `lib/${names.join(', lib/')} may import only the floors below`,
  severity: 'error',
  from: { path: `^lib/(${names.join('|')})/` },
  to: { path: `^lib/(${floors.slice(level + 1).flat().join('|')})/` },
}));

module.exports = {
  forbidden: [
    ...upward,
    {
      name: 'no-circular',
      comment: 'A cycle of imports hides which file is the lower one',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-orphans',
      comment: 'A file nobody imports is dead, unless it is an entry point',
      severity: 'error',
      from: {
        orphan: true,
        pathNot: [
          '/index\\.ts$',
          '^lib/cli/',
          'worker\\.ts$',
          '^scripts/',
          '^test/',
          '\\.d\\.ts$',
        ],
      },
      to: {},
    },
    {
      name: 'lib-stands-alone',
      comment: 'What is published must not need scripts or tests',
      severity: 'error',
      from: { path: '^lib/' },
      to: { path: '^(scripts|test)/' },
    },
    {
      name: 'no-dev-dependency-in-lib',
      comment: 'A published file may need only what users get installed',
      severity: 'error',
      from: { path: '^lib/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only', 'npm'] },
    },
    {
      name: 'resolvable',
      comment: 'An import that leads nowhere',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // The types of the operators are written at set-up; they hold no logic.
    exclude: { path: '^lib/torch/generated/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
