import { CustomChart, LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, MarkLineComponent, TitleComponent } from 'echarts/components';
import { use } from 'echarts/core';
import { chartSvg } from '../../../lib/app/chart.js';
import { FONT_FAMILY } from '../../../lib/app/fonts.js';
import { ARMS } from './arms.js';
import { gainOver, type Results, valuesAt } from './document.js';
import { type Estimate, estimate } from './statistics.js';

use([CustomChart, LineChart, ScatterChart, GridComponent, MarkLineComponent, TitleComponent]);

/** Arms whose curves have a colour of their own; the others are grey. */
const COLOURS: Readonly<Record<string, string>> = {
  sft: '#b7791f',
  code: '#8a5bb5',
  rejection: '#2a8c5f',
  nft: '#1f6fb4',
  'nft-oracle': '#c4423d',
};
const GREY = '#b4bac4';
const TEXT = '#1d2430';
const WIDTH = 1080;
const HEIGHT = 520;

/**
 * Left: mean share of exact pictures by work, a curve for each arm. Right: every arm's gain over the base model
 * after all work with its 95 % interval, full circles for seen and hollow ones for held-out prompts.
 */
export function resultsPlot(results: Results): string {
  const { curves, settings, bases } = results;
  const last = settings.marks[settings.marks.length - 1];
  const arms = ARMS.map(({ name }) => ({
    name,
    colour: COLOURS[name] ?? GREY,
    own: curves.filter(({ arm }) => arm === name),
  })).filter(({ own }) => own.length > 0);
  const end = arms
    .map((arm) => ({
      ...arm,
      seen: gainOver(bases, arm.own, 'seen') as Estimate,
      heldOut: gainOver(bases, arm.own, 'heldOut') as Estimate,
    }))
    .sort((a, b) => a.seen.mean - b.seen.mean);
  const lines = arms.map(({ name, colour, own }) => ({
    type: 'line',
    name,
    color: colour,
    symbolSize: 5,
    lineStyle: { width: colour === GREY ? 1.2 : 2.4 },
    z: colour === GREY ? 2 : 3,
    data: [0, ...settings.marks].map((work) => [
      work,
      100 * estimate(valuesAt(work === 0 ? bases : own, work, 'seen')).mean,
    ]),
  }));
  const intervals = (key: 'seen' | 'heldOut', shift: number) => [
    {
      type: 'custom',
      xAxisIndex: 1,
      yAxisIndex: 1,
      data: end.map((arm, i) => {
        const { mean, halfWidth } = arm[key];
        const half = halfWidth ?? 0;
        return [100 * (mean - half), i + shift, 100 * (mean + half)];
      }),
      renderItem: (params: { dataIndex: number }, api: ChartApi) => {
        const [x1, y1] = api.coord([api.value(0), api.value(1)]);
        const [x2] = api.coord([api.value(2), api.value(1)]);
        const style = { stroke: end[params.dataIndex].colour, lineWidth: 2 };
        return { type: 'line', shape: { x1, y1, x2, y2: y1 }, style };
      },
    },
    {
      type: 'scatter',
      xAxisIndex: 1,
      yAxisIndex: 1,
      symbolSize: 9,
      data: end.map((arm, i) => ({
        value: [100 * arm[key].mean, i + shift],
        itemStyle: {
          color: key === 'seen' ? arm.colour : '#ffffff',
          borderColor: arm.colour,
          borderWidth: 2,
          opacity: 1,
        },
      })),
      markLine: {
        silent: true,
        symbol: 'none',
        label: { show: false },
        lineStyle: { color: TEXT, type: 'dashed' },
        data: [{ xAxis: 0 }],
      },
    },
  ];
  const title = (text: string, left: number) => ({
    text,
    left,
    top: 14,
    textStyle: { fontSize: 15, fontWeight: 600, color: TEXT },
  });
  const axis = {
    type: 'value',
    nameLocation: 'middle',
    nameGap: 28,
    scale: true,
    axisLine: { onZero: false },
  };
  return chartSvg(WIDTH, HEIGHT, {
    title: [
      title('Exact pictures by work, seen prompts', 20),
      title(`Gain after ${last} passes: ● seen, ○ held out`, 560),
    ],
    grid: [
      { left: 50, width: 450, top: 60, bottom: 50 },
      { left: 660, right: 30, top: 60, bottom: 50 },
    ],
    xAxis: [
      { ...axis, name: 'forward passes', gridIndex: 0, max: last },
      { ...axis, name: 'percentage points', gridIndex: 1 },
    ],
    yAxis: [
      { ...axis, name: '% exact', nameGap: 34, gridIndex: 0 },
      {
        type: 'value',
        gridIndex: 1,
        min: -0.6,
        max: end.length - 0.4,
        interval: 1,
        axisLine: { show: false },
        axisTick: { show: false },
        splitLine: { show: false },
        axisLabel: { show: false },
      },
    ],
    series: [
      ...lines,
      ...intervals('seen', 0.13),
      ...intervals('heldOut', -0.17),
      {
        // Names of the arms, beside their rows.
        type: 'custom',
        xAxisIndex: 1,
        yAxisIndex: 1,
        clip: false,
        data: end.map((_, i) => [0, i]),
        encode: { x: -1, y: 1 },
        renderItem: (params: { dataIndex: number; coordSys: { x: number } }, api: ChartApi) => ({
          type: 'text',
          x: params.coordSys.x - 10,
          y: api.coord([0, api.value(1)])[1],
          style: {
            text: end[params.dataIndex].name,
            align: 'right',
            verticalAlign: 'middle',
            fill: end[params.dataIndex].colour === GREY ? '#5b6472' : end[params.dataIndex].colour,
            font: `13px ${FONT_FAMILY}`,
          },
        }),
      },
    ],
  });
}

/** What the chart library hands to the drawing of an item. */
interface ChartApi {
  value: (dimension: number) => number;
  coord: (point: readonly number[]) => [number, number];
}
