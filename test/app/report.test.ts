import assert from 'node:assert/strict';
import { type Report, renderReport } from '../../lib/app/report.js';

const png = Uint8Array.of(0x89, 0x50, 0x4e, 0x47);
const hostile = '<script>alert(1)</script>"\'&';

const report: Report = {
  title: `Run ${hostile}`,
  warnings: ['This model is untrained.'],
  facts: [{ label: 'steps', value: '24' }],
  sections: [
    {
      title: 'Pictures',
      blocks: [
        {
          kind: 'comparison',
          headings: ['before', 'after'],
          rows: [
            {
              prompt: hostile,
              images: [
                { data: png, alt: hostile },
                { data: png, alt: 'b' },
              ],
            },
          ],
        },
        { kind: 'images', images: [{ data: '<svg xmlns="x"/>', alt: 'loss', caption: hostile }] },
      ],
    },
    {
      title: 'Scores',
      blocks: [
        { kind: 'text', text: `one\n\n${hostile}` },
        {
          kind: 'table',
          table: {
            columns: ['object', { title: 'score', score: true }, 'area'],
            rows: [
              [hostile, -0.5, 1200],
              ['sky', null, 2.71900001],
            ],
          },
        },
      ],
    },
    {
      title: 'Settings',
      blocks: [{ kind: 'settings', settings: { a: [1, 2], b: hostile, c: undefined } }],
    },
  ],
};

describe('renderReport', () => {
  const html = renderReport(report);

  it('interprets nothing that users or models wrote', () => {
    assert.equal(/<script/i.test(html), false);
    assert.ok(html.includes('&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;'));
  });

  it('needs no other file, no network and no scripts', () => {
    for (const [, source] of html.matchAll(/(?:src|href)="([^"]*)"/g)) {
      assert.match(source, /^(data:image\/(png|svg\+xml);base64,|#)/);
    }
    assert.equal(/url\(|@import|<link|\son\w+=/i.test(html), false);
    const embedded = /data:image\/png;base64,([^"]+)"/.exec(html)?.[1] ?? '';
    assert.deepEqual([...Buffer.from(embedded, 'base64')], [...png]);
  });

  it('shows warnings, facts, missing scores and settings', () => {
    assert.match(html, /class="warning"[^>]*>.*This model is untrained\./);
    assert.ok(html.includes('<dt>steps</dt><dd>24</dd>'));
    assert.ok(html.includes('\u22120.50') && html.includes('<span class="none">none</span>'));
    assert.ok(html.includes('[1,2]') && html.includes('not set') && html.includes('2.719'));
  });

  it('opens and closes the same elements', () => {
    const open: string[] = [];
    const single = new Set(['meta', 'img', 'rect']);
    for (const [, close, name] of html
      .replace(/<!doctype[^>]*>/i, '')
      .matchAll(/<(\/?)([a-z0-9]+)/g)) {
      if (single.has(name)) continue;
      if (close === '') open.push(name);
      else assert.equal(open.pop(), name);
    }
    assert.deepEqual(open, []);
  });
});
