import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { srum, srumJson, tempDir } from '../support/srum.js';

/** A machine without LibTorch. */
const WITHOUT = { SRUM_LIBTORCH: '/nonexistent/libtorch' };

describe('cli/main', function () {
  this.timeout(60_000);
  let dir: string;
  before(() => {
    dir = tempDir();
  });
  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  it('explains itself without LibTorch, with an example for every command', async () => {
    const help = await srum(['--help'], { env: WITHOUT });
    assert.equal(help.code, 0, help.stderr);
    const names = [...help.stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name);
    const own = names.filter((name) => !['help', 'libtorch'].includes(name));
    for (const name of ['demo', 'doctor', 'generate', 'score', 'train', 'export', 'loop']) {
      assert.ok(own.includes(name), `${name} in ${names}`);
    }
    const texts = await Promise.all(
      [...own.map((name) => [name]), ['libtorch', 'install'], ['libtorch', 'path']].map((name) =>
        srum([...name, '--help'], { env: WITHOUT }),
      ),
    );
    for (const text of texts) {
      assert.equal(text.code, 0, text.stderr);
      assert.match(text.stdout, /Example:\n {2}\S/);
      assert.match(text.stdout, /--json/);
    }
  });

  it('refuses unknown options and commands with the nearest known one', async () => {
    const given = ['generate', '--model', 'm', '--prompts', 'p', '--out', 'o'];
    const option = await srum([...given, '--num-timestep', '3'], { env: WITHOUT });
    assert.equal(option.code, 1);
    assert.match(option.stderr, /unknown option '--num-timestep'[\s\S]*--num-timesteps/);
    const command = await srum(['genrate'], { env: WITHOUT });
    assert.equal(command.code, 1);
    assert.match(command.stderr, /genrate[\s\S]*generate/);
  });

  it('refuses values that make no sense, naming the option', async () => {
    const base = ['generate', '--model', 'm', '--prompts', 'p', '--out', 'o'];
    for (const [flag, value] of [
      ['--image-size', '64'],
      ['--num-timesteps', '1'],
      ['--cfg-interval', '0.9,0.1'],
      ['--cfg-renorm-type', 'local'],
      ['--seed', '-1'],
      ['--dtype', 'int8'],
      ['--device', 'gpu'],
      ['--timestep-shift', '0'],
      ['--cfg-interval', ',1'],
    ]) {
      const ended = await srum([...base, flag, value], { env: WITHOUT });
      assert.equal(ended.code, 1, flag);
      assert.ok(ended.stderr.includes(flag), ended.stderr);
    }
  });

  it('tells mistakes on the command line as JSON too, alone on standard output', async () => {
    const given = ['generate', '--model', 'm', '--prompts', 'p', '--out', 'o'];
    const cases: Array<[string[], RegExp, RegExp?]> = [
      [[], /unknown option '--json'/],
      [['generate'], /required option '--prompts <file>'/],
      [['genrate'], /unknown command 'genrate'/, /generate/],
      [[...given, '--num-timestep', '3'], /unknown option '--num-timestep'/, /--num-timesteps/],
      [[...given, '--cfg-renorm-type', 'local'], /--cfg-renorm-type.*global, channel/],
      [['doctor', 'more'], /too many arguments/],
      [['train'], /missing required argument 'recipe'/],
    ];
    for (const [args, message, hint] of cases) {
      const { code, json, stderr } = await srumJson(args, { env: WITHOUT });
      assert.deepEqual([code, json.error.code, stderr], [1, 'ERR_USAGE', ''], args.join(' '));
      assert.match(json.error.message, message);
      if (hint) assert.match(json.error.hint, hint);
    }
  });

  it('doctor reports and fails where LibTorch is missing', async () => {
    const { code, json } = await srumJson(['doctor'], { env: WITHOUT });
    assert.equal(code, 1);
    assert.equal(json.healthy, false);
    const libtorch = json.checks.find((check: { id: string }) => check.id === 'libtorch');
    assert.equal(libtorch.status, 'fail');
    assert.match(libtorch.advice, /Run /);
    const people = await srum(['doctor'], { env: WITHOUT });
    assert.match(people.stdout, /FAIL +LibTorch/);
  });

  it('says in one line what is missing when a command needs LibTorch', async () => {
    const ended = await srumJson(['libtorch', 'path'], { env: WITHOUT });
    assert.equal(ended.code, 1);
    assert.equal(ended.json.error.code, 'ERR_LIBTORCH_MISSING');
    assert.match(ended.json.error.hint, /Run /);
    assert.equal(ended.stderr, '');
  });

  it('tells of input that is not there before anything is loaded', async () => {
    const args = [
      'generate',
      '--model',
      'tiny',
      '--prompts',
      path.join(dir, 'no.json'),
      '--out',
      dir,
    ];
    const ended = await srum(args, { env: WITHOUT });
    assert.equal(ended.code, 1);
    assert.match(ended.stderr, /^srum: cannot read the file[^\n]*no\.json[^\n]*\[ERR_NO_FILE\]\n$/);
  });

  it('fails when standard output cannot take the result', async function () {
    if (!fs.existsSync('/dev/full')) this.skip();
    const ended = await srum(['doctor', '--json'], { stdoutFile: '/dev/full' });
    assert.equal(ended.code, 1);
  });
});
