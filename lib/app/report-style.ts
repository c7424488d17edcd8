/** The report's style sheet. Colours are variables, set once for light and once for dark. */
export const REPORT_STYLE = `
:root{--ground:#fff;--raised:#f6f7f9;--ink:#1d2430;--soft:#5b6472;--line:#e2e5ea;--accent:#1f6fb4;
--plus:#2f7fc0;--minus:#cf4a44;--note:#fff6df;--note-line:#e0b64c;--note-ink:#5a430a}
@media (prefers-color-scheme:dark){:root{--ground:#14171c;--raised:#1d2128;--ink:#e7eaef;--soft:#9aa4b2;
--line:#2d333d;--accent:#6fb1e8;--plus:#5aa6e0;--minus:#e8746d;--note:#33290f;--note-line:#a5842f;--note-ink:#f1dca4}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:66rem;padding:3rem 1.5rem 4rem;background:var(--ground);color:var(--ink);
font:16px/1.55 Inter,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:2.1rem;line-height:1.2;letter-spacing:-.02em;margin:0 0 .4rem}
h2{font-size:1.35rem;letter-spacing:-.01em;margin:3.2rem 0 1rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .6rem;overflow-wrap:anywhere}
p{margin:.5rem 0 1rem;max-width:46rem;overflow-wrap:anywhere}
.lead{font-size:1.1rem;color:var(--soft)}
.warning{max-width:none;margin:1.2rem 0;padding:.75rem 1rem;background:var(--note);color:var(--note-ink);
border-left:4px solid var(--note-line);border-radius:4px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1px;margin:1.6rem 0;
background:var(--line);border:1px solid var(--line);border-radius:8px;overflow:hidden}
.facts div{background:var(--ground);padding:.8rem 1rem}
dt{font-size:.8rem;color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.facts dd{font-size:1.2rem;font-weight:600;font-variant-numeric:tabular-nums}
nav{display:flex;flex-wrap:wrap;gap:.4rem 1.4rem;font-size:.92rem}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
figure{margin:0}
figcaption{margin-top:.4rem;font-size:.85rem;color:var(--soft);overflow-wrap:anywhere}
img{display:block;max-width:100%;height:auto;border-radius:6px;border:1px solid var(--line);background:#fff}
.pixelated{image-rendering:pixelated}
.images{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1.4rem;align-items:start}
.comparison{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1.2rem}
.comparison article{padding:1rem;background:var(--raised);border:1px solid var(--line);border-radius:8px}
.pair{display:flex;gap:.8rem}
.pair figure{flex:1 1 0;min-width:0}
.pair img{width:100%}
.note{margin:0 0 .6rem;font-size:.85rem;color:var(--soft)}
.scroll{overflow-x:auto;margin:1rem 0 1.6rem}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.5rem;font-weight:600;overflow-wrap:anywhere}
th{font-size:.8rem;font-weight:600;color:var(--soft);text-align:left;white-space:nowrap}
th,td{padding:.45rem .9rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td{overflow-wrap:anywhere}
.n{text-align:right;white-space:nowrap}
.score{display:inline-flex;align-items:center;gap:.6rem}
.track{fill:var(--line)}.plus{fill:var(--plus)}.minus{fill:var(--minus)}
.none{color:var(--soft);font-style:italic}
.settings{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:.2rem 2rem;margin:1rem 0}
.settings div{display:flex;justify-content:space-between;gap:1rem;padding:.35rem 0;border-bottom:1px solid var(--line)}
.settings dt{font-size:.88rem}
.settings dd{font-size:.88rem;text-align:right;font-variant-numeric:tabular-nums}
footer{margin-top:3.5rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.85rem;color:var(--soft)}
@media print{body{max-width:none;padding:0}article,figure,tr{break-inside:avoid}}
`.trim();
