import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { readImage, writePng } from '../../lib/data/images.js';
import { openSafetensors, type Tensor, writeSafetensors } from '../../lib/torch/index.js';
import { srum, srumJson, workplace } from '../support/srum.js';

describe('cli/ask, edit, inspect', function () {
  this.timeout(120_000);
  const place = workplace();
  const { at } = place;
  const model = () => ['--model', place.model, '--device', 'cpu'];

  before(async () => {
    const data = Uint8Array.from({ length: 90 * 60 * 3 }, (_, i) => (i * 7) % 256);
    await writePng(at('photo.png'), { width: 90, height: 60, data });
  });

  it('ask answers, the same for the same seed', async () => {
    const ask = ['ask', at('photo.png'), 'What is this?', ...model(), '--max-think-token-n', '12'];
    const first = await srumJson([...ask, '--do-sample', '--text-temperature', '1']);
    assert.equal(first.code, 0, first.stderr);
    assert.equal(typeof first.json.answer, 'string');
    assert.equal(first.json.thought, null);
    assert.equal(first.json.settings.do_sample, true);
    const again = await srumJson([...ask, '--do-sample', '--text-temperature', '1']);
    assert.equal(again.json.answer, first.json.answer);
    const people = await srum([...ask, '--do-sample', '--text-temperature', '1']);
    assert.ok(people.stdout.startsWith(first.json.answer));
  });

  it('edit writes a picture of the input’s shape', async () => {
    const edit = ['edit', at('photo.png'), 'make it snow', ...model(), '--num-timesteps', '3'];
    const scale = ['--cfg-image-scale', '1.5'];
    const { code, json, stderr } = await srumJson([...edit, ...scale, '--out', at('snow.png')]);
    assert.equal(code, 0, stderr);
    assert.equal(json.settings.cfg_renorm_type, 'text_channel');
    assert.equal(json.settings.cfg_img_scale, 1.5);
    const image = await readImage(at('snow.png'));
    assert.deepEqual([image.width, image.height], [json.width, json.height]);
    assert.ok(image.width > image.height);
  });

  it('both refuse pictures that cannot be read', async () => {
    fs.writeFileSync(at('broken.png'), 'no picture');
    for (const [file, code] of [
      ['broken.png', 'ERR_IMAGE_UNREADABLE'],
      ['missing.png', 'ERR_NO_FILE'],
    ]) {
      const asked = await srumJson(['ask', at(file), 'What?', ...model()]);
      assert.deepEqual([asked.code, asked.json.error.code], [1, code]);
      const edited = await srumJson(['edit', at(file), 'x', ...model(), '--out', at('x.png')]);
      assert.deepEqual([edited.code, edited.json.error.code], [1, code]);
    }
    assert.equal(fs.existsSync(at('x.png')), false);
  });

  it('edit finds out before the work that its result has no place', async () => {
    const edit = ['edit', at('photo.png'), 'x', ...model(), '--out'];
    fs.mkdirSync(at('folder.png'));
    for (const [out, code] of [
      [at('snow.jpg'), 'ERR_OUTPUT_NAME'],
      [at('folder.png'), 'ERR_NOT_A_FILE'],
      [at('photo.png', 'below.png'), 'ERR_NOT_A_FOLDER'],
    ]) {
      const ended = await srum([...edit, out]);
      assert.equal(ended.code, 1, out);
      assert.ok(ended.stderr.includes(`[${code}]`), ended.stderr);
      assert.doesNotMatch(ended.stderr, /loading/);
    }
  });

  it('tell of model folders that lack a part, before anything is made', async () => {
    for (const [name, code, part] of [
      ['ae.safetensors', 'ERR_NO_VAE', 'autoencoder'],
      ['tokenizer.json', 'ERR_NO_TOKENIZER', 'tokenizer'],
    ]) {
      const dir = at(`without-${part}`);
      fs.cpSync(place.model, dir, { recursive: true });
      fs.rmSync(path.join(dir, name));
      const edited = await srumJson([
        ...['edit', at('photo.png'), 'x', '--model', dir, '--device', 'cpu'],
        ...['--out', at('nothing.png')],
      ]);
      assert.deepEqual([edited.code, edited.json.error.code], [1, code]);
      const prompts = ['--prompts', place.prompts, '--image-size', '64x64'];
      const drawn = await srumJson([
        ...['generate', '--model', dir, '--device', 'cpu', ...prompts, '--out', at('none')],
      ]);
      assert.deepEqual([drawn.code, drawn.json.error.code], [1, code]);
      assert.equal(fs.existsSync(at('none')), false);
      const seen = await srumJson(['inspect', dir]);
      assert.equal(seen.code, 1);
      assert.deepEqual(
        seen.json.missing_files.map((file: { part: string }) => file.part),
        [part],
      );
    }
  });

  it('inspect counts parameters and reports keys', async () => {
    const { code, json } = await srumJson(['inspect', place.model, '--tensors']);
    assert.equal(code, 0);
    assert.equal(json.loadable, true);
    assert.equal(json.architecture.llm.hidden_size, 64);
    const counted = json.tensors.reduce(
      (sum: number, t: { shape: number[] }) => sum + t.shape.reduce((a, b) => a * b, 1),
      0,
    );
    const { autoencoder, ...parts } = json.parameters;
    assert.ok(autoencoder > 0);
    assert.equal(
      Object.values(parts as Record<string, number>).reduce((a, b) => a + b),
      counted,
    );
    const text = await srum(['inspect', place.model]);
    assert.match(text.stdout, /generation expert +[\d,]+/);
    assert.match(text.stdout, /0 missing, 0 extra, 0 of the wrong shape/);
  });

  it('inspect tells a truncated weight file and missing keys apart from a whole model', async () => {
    fs.cpSync(place.model, at('cut'), { recursive: true });
    const weights = at('cut', 'ema.safetensors');
    fs.truncateSync(weights, fs.statSync(weights).size - 1000);
    const cut = await srumJson(['inspect', at('cut')]);
    assert.deepEqual([cut.code, cut.json.error.code], [1, 'ERR_SAFETENSORS']);
    const config = JSON.parse(fs.readFileSync(at('model', 'llm_config.json'), 'utf8'));
    fs.cpSync(place.model, at('deeper'), { recursive: true });
    const deeper = { ...config, num_hidden_layers: config.num_hidden_layers + 1 };
    fs.writeFileSync(at('deeper', 'llm_config.json'), JSON.stringify(deeper));
    const missing = await srumJson(['inspect', at('deeper')]);
    assert.equal(missing.code, 1);
    assert.equal(missing.json.loadable, false);
    assert.ok(missing.json.keys.missing.length > 0);
    assert.deepEqual(missing.json.keys.unexpected, []);
    fs.cpSync(place.model, at('other'), { recursive: true });
    const own = openSafetensors(at('other', 'ae.safetensors'));
    const kept = [...own.keys()].slice(1).map((key) => [key, own.get(key)] as [string, Tensor]);
    writeSafetensors(at('other', 'ae.safetensors'), kept);
    const vae = await srumJson(['inspect', at('other')]);
    assert.deepEqual([vae.code, vae.json.loadable], [1, false]);
    assert.deepEqual(vae.json.autoencoder_keys.missing, [[...own.keys()][0]]);
  });
});
