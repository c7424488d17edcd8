import type { Report } from './types.js';

function cell(value: number | null): string {
  return value === null ? '-' : String(value);
}

function span(range: readonly [number, number] | null): string {
  return range === null ? '-' : `${range[0]}..${range[1]}`;
}

/** The report as aligned text for people. */
export function table(report: Report, about: string): string {
  const head = ['case', 'ours', 'peer', 'ratio', 'unit', 'ours min..max', 'peer min..max'];
  const body = report.rows.map((r) => [
    r.case,
    cell(r.ours),
    cell(r.peer),
    cell(r.ratio),
    r.unit,
    span(r.ours_range),
    span(r.peer_range),
  ]);
  const widths = head.map((h, i) => Math.max(h.length, ...body.map((line) => line[i].length)));
  const lines = [head, ...body].map((line) =>
    line.map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join('  '),
  );
  const left = report.left_out.map((text) => `left out: ${text}`);
  return [
    `${report.name}: ${about}`,
    report.machine,
    `medians of ${report.rounds} rounds, ${report.threads} thread(s) on both sides`,
    '',
    ...lines,
    ...(left.length > 0 ? ['', ...left] : []),
  ].join('\n');
}
