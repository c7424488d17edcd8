export { type ContactCell, type ContactSheetOptions, contactSheet } from './contact-sheet.js';
export { type HeatMapOptions, type HeatRegion, heatMap } from './heat-map.js';
export {
  type LossCurveOptions,
  type LossSeries,
  lossCurvePng,
  lossCurveSvg,
} from './loss-curve.js';
export {
  type Report,
  type ReportBlock,
  type ReportComparison,
  type ReportImage,
  type ReportSection,
  type ReportTable,
  renderReport,
} from './report.js';
