// mocha adds the files of its configuration to those on the command line; here whoever names files gets only those.
const named = process.argv.slice(2).some((argument) => /\.js$/.test(argument) && !argument.startsWith('-'));

module.exports = {
  spec: named ? [] : ['dist/test/**/*.test.js'],
  timeout: 120_000,
  slow: 2000,
  'forbid-only': true,
};
