import assert from 'node:assert/strict';
import sharp from 'sharp';
import { contactSheet } from '../../lib/app/contact-sheet.js';
import { ensureFonts, FONT_FAMILY, fitText, textWidth, wrapText } from '../../lib/app/fonts.js';
import { heatMap } from '../../lib/app/heat-map.js';
import { lossCurvePng, lossCurveSvg } from '../../lib/app/loss-curve.js';
import { divergingColour, signed } from '../../lib/app/palette.js';
import { rasterize } from '../../lib/app/picture.js';
import { escapeMarkup, svgDocument, svgText } from '../../lib/app/svg.js';
import type { RgbImage } from '../../lib/data/images.js';

function plain(width: number, height: number, colour: readonly number[]): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i += 3) data.set(colour, i);
  return { width, height, data };
}

/** Decoded picture with a way to look at single pixels. */
async function decoded(png: Buffer) {
  const { data, info } = await sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const at = (x: number, y: number) => [...data.subarray((y * info.width + x) * 3).subarray(0, 3)];
  const count = (test: (r: number, g: number, b: number) => boolean) => {
    let n = 0;
    for (let i = 0; i < data.length; i += 3) if (test(data[i], data[i + 1], data[i + 2])) n += 1;
    return n;
  };
  return { width: info.width, height: info.height, at, count };
}

describe('contactSheet', () => {
  it('shows every picture in its place, at the expected size', async () => {
    const colours = [
      [200, 0, 0],
      [0, 200, 0],
      [0, 0, 200],
      [200, 200, 0],
      [0, 200, 200],
    ];
    const cells = colours.map((colour, i) => ({
      image: plain(32, 32, colour),
      label: `cell ${i}`,
    }));
    const sheet = await decoded(await contactSheet(cells, { columns: 2, cellSize: 64 }));
    assert.equal(sheet.width, 28 * 2 + 64 * 2 + 20);
    colours.forEach(([r, g, b]) => {
      const seen = sheet.count((x, y, z) => x === r && y === g && z === b);
      assert.ok(seen >= 62 * 62, `${seen} pixels`);
    });
    assert.deepEqual(sheet.at(28 + 32, 28 + 32), [200, 0, 0]);
    assert.deepEqual(sheet.at(28 + 64 + 20 + 32, 28 + 32), [0, 200, 0]);
  });

  it('draws labels, and marks missing pictures', async () => {
    const dark = (r: number, g: number, b: number) => r + g + b < 250;
    const image = plain(32, 32, [240, 240, 240]);
    const bare = await decoded(await contactSheet([{ image }], { cellSize: 96 }));
    const named = await decoded(await contactSheet([{ image, label: 'a name' }], { cellSize: 96 }));
    assert.equal(bare.count(dark), 0);
    assert.ok(named.count(dark) > 20, 'the label is drawn');
    const empty = await decoded(await contactSheet([{ label: 'gone' }], { cellSize: 96 }));
    assert.ok(empty.count((r, g, b) => r === 244 && g === 245 && b === 247) > 1000);
  });

  it('writes headings beside the rows, and leaves blank places white', async () => {
    const image = plain(32, 32, [200, 0, 0]);
    const cells = [{ image }, { image }, { image }, { blank: true }];
    const options = { columns: 2, cellSize: 64, rowHeadings: ['before', 'after'] };
    const sheet = await decoded(await contactSheet(cells, options));
    assert.equal(sheet.width, 28 * 2 + 26 + 64 * 2 + 20);
    assert.deepEqual(sheet.at(28 + 26 + 32, 28 + 32), [200, 0, 0]);
    assert.deepEqual(sheet.at(28 + 26 + 84 + 32, 28 + 84 + 32), [255, 255, 255]);
    let dark = 0;
    for (let x = 0; x < 28 + 24; x += 1) {
      for (let y = 28; y < 28 + 64; y += 1) if (sheet.at(x, y)[0] < 180) dark += 1;
    }
    assert.ok(dark > 10, 'the heading is drawn');
  });

  it('takes any text', async () => {
    const label = '<script>&\u0000\ud800 "quotes" 寿司';
    const cells = [{ image: plain(8, 8, [1, 2, 3]), label, note: label }];
    await contactSheet(cells, { title: label, subtitle: label, headings: [label] });
  });

  it('refuses an empty sheet', async () => {
    await assert.rejects(contactSheet([]), { name: 'ConfigError' });
    await assert.rejects(contactSheet([{}], { columns: 0 }), { name: 'ConfigError' });
  });
});

describe('heatMap', () => {
  const image = plain(40, 40, [128, 128, 128]);

  it('is blue where the reward is positive, red where negative, grey where neutral', async () => {
    const data = new Float32Array(16);
    data.fill(0.9, 0, 4);
    data.fill(-0.9, 12, 16);
    const png = await heatMap(image, { data, width: 4, height: 4 }, { size: 200 });
    const picture = await decoded(png);
    const [r, , b] = picture.at(28 + 100, 28 + 20);
    assert.ok(b > r + 60, `${r} ${b}`);
    const low = picture.at(28 + 100, 28 + 180);
    assert.ok(low[0] > low[2] + 60);
    const middle = picture.at(28 + 100, 28 + 100);
    assert.ok(Math.max(...middle) - Math.min(...middle) <= 2);
  });

  it('draws boxes that leave the image, touch its corners or have no score', async () => {
    const map = { data: new Float32Array(4), width: 2, height: 2 };
    const regions = [
      { box: [-5, -5, 90, 90], label: 'a <b> & a name that is far too long for its tag', score: 1 },
      { box: [38, 38, 40, 40], label: 'corner', score: -0.3 },
      { box: [0, 0, 2, 2], label: 'none', score: null },
    ];
    const plainMap = await decoded(await heatMap(image, map, { size: 120 }));
    const png = await heatMap(image, map, { size: 120, regions });
    const drawn = await decoded(png);
    const blue = (r: number, _g: number, b: number) => b > r + 80;
    assert.ok(drawn.count(blue) > plainMap.count(blue) + 200);
  });

  it('refuses a map of the wrong size', async () => {
    const map = { data: new Float32Array(3), width: 2, height: 2 };
    await assert.rejects(heatMap(image, map), { name: 'DataError' });
  });
});

describe('loss curve', () => {
  const points = Array.from({ length: 60 }, (_, i) => [i + 1, 2 / (i + 1) + 0.2] as const);

  it('is an SVG document with every series, and the same every time', () => {
    const series = [
      { name: 'mse', points },
      { name: 'reward <term>', points: points.map(([s, v]) => [s, v / 2] as const) },
    ];
    const svg = lossCurveSvg(series, { title: 'Loss & more' });
    assert.match(svg, /^<svg /);
    assert.ok(svg.includes('mse') && svg.includes('reward &lt;term&gt;'));
    assert.ok(svg.includes('Loss &amp; more'));
    assert.equal(svg.includes('NaN'), false);
    assert.ok(lossCurveSvg(series, { title: 'Loss & more' }) === svg, 'equal curves, equal files');
  });

  it('leaves gaps where the loss is not finite', () => {
    const broken = points.slice(0, 8).map(([s, v]) => [s, s === 4 ? Number.NaN : v] as const);
    const svg = lossCurveSvg([{ name: 'mse', points: broken }]);
    assert.equal(svg.includes('NaN'), false);
    const lines = [...svg.matchAll(/<path d="([^"]+)"[^>]*stroke="#1f6fb4"/g)].map((m) => m[1]);
    assert.ok(
      lines.some((d) => (d.match(/M/g) ?? []).length === 2),
      'the line has two pieces',
    );
  });

  it('becomes a PNG of twice its size', async () => {
    const png = await lossCurvePng([{ name: 'mse', points }], { width: 300, height: 200 });
    const picture = await decoded(png);
    assert.deepEqual([picture.width, picture.height], [600, 400]);
    assert.ok(picture.count((r, _g, b) => b > r + 100) > 300, 'the blue line is there');
  });

  it('refuses to draw nothing', () => {
    assert.throws(() => lossCurveSvg([]), { name: 'ConfigError' });
    const nothing = [{ name: 'x', points: [[1, Number.NaN]] as const }];
    assert.throws(() => lossCurveSvg(nothing), { name: 'ConfigError' });
  });
});

describe('text in pictures', () => {
  it('is drawn with our own font', async () => {
    await ensureFonts();
    const draw = async (family: string) => {
      const text = svgText(10, 40, 'Regional rewards', { size: 30 });
      const svg = svgDocument(300, 60, text).replace(escapeMarkup(FONT_FAMILY), family);
      return (await rasterize(svg, 1)).toString('base64');
    };
    assert.equal(await draw('Inter'), await draw(escapeMarkup(FONT_FAMILY)));
    assert.notEqual(await draw('Inter'), await draw('no such font'));
  });

  it('is cut to the room there is', () => {
    const long = 'a fairly long line of words without end';
    const cut = fitText(long, 13, 120);
    assert.ok(cut.endsWith('…') && textWidth(cut, 13) <= 120);
    assert.equal(fitText('short', 13, 120), 'short');
    const lines = wrapText(long, 13, 120, 2);
    assert.equal(lines.length, 2);
    assert.ok(lines.every((line) => textWidth(line, 13) <= 120));
    assert.deepEqual(wrapText('', 13, 120, 2), []);
  });

  it('estimates widths close to what is drawn', async () => {
    await ensureFonts();
    for (const text of ['a green tree behind a fence', 'WIDE TITLE 2026', 'iiii llll ....']) {
      const body = svgText(0, 40, text, { size: 30 });
      const { data, info } = await sharp(await rasterize(svgDocument(900, 60, body), 1))
        .greyscale()
        .raw()
        .toBuffer({ resolveWithObject: true });
      let right = 0;
      data.forEach((v, i) => {
        if (v < 128) right = Math.max(right, i % info.width);
      });
      const estimate = textWidth(text, 30);
      assert.ok(Math.abs(estimate - right) < 0.12 * right, `${text}: ${estimate} and ${right}`);
    }
  });

  it('is escaped', () => {
    assert.equal(
      escapeMarkup('<a href="x">\'&\u0007\ud800😀'),
      '&lt;a href=&quot;x&quot;&gt;&#39;&amp;\ufffd\ufffd😀',
    );
  });
});

describe('colours and numbers', () => {
  it('runs from red over light to blue', () => {
    const [r, , b] = divergingColour(-1);
    assert.ok(r > b);
    assert.deepEqual(divergingColour(7), divergingColour(1));
    assert.ok(Math.min(...divergingColour(0)) > 240);
  });

  it('always shows the sign', () => {
    assert.deepEqual(
      [0.5, -0.25, 0, -0.001].map((v) => signed(v)),
      ['+0.50', '\u22120.25', '0.00', '0.00'],
    );
  });
});
