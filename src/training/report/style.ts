/**
 * How the page looks: system fonts, one accent for training and one for validation (told apart by dots as well as by colour), light and
 * dark by what the reader's system asks for, and paper. Colours have a contrast of at least 4.5 to their ground.
 */

const LIGHT = `--ground:#fcfcfa;--raised:#fff;--soft:#f1f2ee;--edge:#dedfda;--ink:#1b1f23;--quiet:#585f66;--train:#0a6c74;--check:#a9480a;--good:#1d6b3a;--good-soft:#e0f0e4;--warn:#8a4b00;--warn-soft:#fbeeda;`;
const DARK = `--ground:#131517;--raised:#1a1d20;--soft:#22262a;--edge:#33383d;--ink:#e9e8e4;--quiet:#a2a9b0;--train:#55c3c6;--check:#f2a065;--good:#7fd29b;--good-soft:#1a3123;--warn:#f0b768;--warn-soft:#35280f;`;

export const STYLE = `
:root{color-scheme:light dark;${LIGHT}}
@media (prefers-color-scheme:dark){:root{${DARK}}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
main,footer{max-width:62rem;margin:0 auto;padding:0 clamp(1rem,4vw,2.5rem)}
main{padding-top:clamp(1.75rem,6vw,4rem)}
p,ul,dl,dd,figure,pre{margin:0;padding:0}
small,.note,.gaps{font-size:.8125rem;color:var(--quiet)}
bdi{unicode-bidi:isolate}

.kind{display:flex;flex-wrap:wrap;align-items:center;gap:.25rem .75rem;font-size:.875rem;color:var(--quiet)}
.status{padding:.05rem .6rem;border-radius:1rem;font-weight:600;color:var(--good);background:var(--good-soft)}
.status.interrupted,.status.diverged{color:var(--warn);background:var(--warn-soft)}
h1{margin:.35rem 0 .75rem;font-size:clamp(1.75rem,6vw,2.75rem);line-height:1.12;letter-spacing:-.022em;font-weight:700;text-wrap:balance}
.lead{max-width:44rem;font-size:clamp(1.0625rem,2.4vw,1.25rem);line-height:1.5;color:var(--quiet);text-wrap:pretty}
.lead strong,.lead bdi{color:var(--ink);font-weight:600}
.notice{margin-top:1.5rem;padding:.875rem 1.125rem;border-left:3px solid var(--warn);border-radius:0 .5rem .5rem 0;background:var(--warn-soft)}
pre{margin-top:.5rem;white-space:pre-wrap;font:.875rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}

.figures{display:grid;grid-template-columns:1fr 1fr;gap:1.25rem 1.5rem;margin-top:2rem;padding:1.25rem 0;border-top:1px solid var(--edge);border-bottom:1px solid var(--edge)}
dt{font-size:.8125rem;color:var(--quiet)}
dd{font-size:1.625rem;line-height:1.25;font-weight:650;letter-spacing:-.015em;font-variant-numeric:tabular-nums}
@media (max-width:26rem){dd{font-size:1.375rem}}
dd small{display:block;font-weight:400;letter-spacing:0;line-height:1.4}

section{margin-top:clamp(2.25rem,6vw,3.5rem)}
h2{margin:0 0 1rem;font-size:1.25rem;line-height:1.3;letter-spacing:-.01em;font-weight:650}

.chart{min-width:0;padding:1rem 1rem .75rem;border:1px solid var(--edge);border-radius:.75rem;background:var(--raised)}
.chart+.chart,.chart+.note,.chart+details{margin-top:1rem}
.course{display:grid;gap:1rem}
.course .chart{display:flex;flex-direction:column;margin:0}
.course .plot{margin-top:auto}
.chart figcaption{font-size:.875rem;line-height:1.45}
.unit{color:var(--quiet)}
.legend{display:flex;flex-wrap:wrap;gap:.125rem 1.125rem;margin-top:.125rem;font-size:.8125rem;color:var(--quiet)}
.legend>span{display:inline-flex;align-items:center;gap:.4rem}
.legend b{font-weight:600;color:var(--ink);font-variant-numeric:tabular-nums}
.legend i{width:1.125rem;border-top:2.5px solid var(--train)}
.legend .raw i{border-top-width:1.5px;opacity:.5}
.legend .check i{position:relative;border-top:2px solid var(--check)}
.legend .check i:after{content:"";position:absolute;left:.3125rem;top:-.3125rem;width:.5rem;height:.5rem;border-radius:50%;background:var(--check)}
.plot{container-type:inline-size;padding:1.625rem 1.125rem 3rem 2.875rem}
.axes{display:block;width:100%;height:10.5rem;overflow:visible;font-size:.75rem;font-variant-numeric:tabular-nums}
.large .axes{height:clamp(13rem,42vw,20rem)}
.axes text{fill:var(--quiet)}
.rows line{stroke:var(--edge);stroke-width:1}
.rows text{text-anchor:end}
.columns text,.axis{text-anchor:middle}
.best line{stroke:var(--check);stroke-width:1;stroke-dasharray:3 3}
.axes .best text{fill:var(--check);font-weight:600}
.curves{overflow:visible}
.curves path{fill:none;vector-effect:non-scaling-stroke;stroke-linecap:round;stroke-linejoin:round;stroke:var(--train);stroke-width:2}
.curves .raw{stroke-width:1;opacity:.42}
.curves .check{stroke:var(--check);stroke-width:1.5}
circle{fill:var(--train);stroke:var(--raised);stroke-width:1.5}
circle.check{fill:var(--check)}
circle:hover{stroke:var(--ink)}
.bands rect{fill:transparent}
.bands rect:hover{fill:var(--ink);fill-opacity:.1}
.empty{color:var(--quiet);font-style:italic}
@media (min-width:46rem){.figures{grid-template-columns:repeat(var(--columns),1fr)}.course{grid-template-columns:repeat(3,minmax(0,1fr))}}
@container (max-width:26rem){.columns text:nth-last-child(even){display:none}}

.samples{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,16.5rem),1fr));gap:1.25rem}
.sample{display:flex;flex-direction:column;min-width:0;overflow:hidden;border:1px solid var(--edge);border-radius:.75rem;background:var(--raised)}
.sample img,.blank{display:block;width:100%;aspect-ratio:4/3;object-fit:contain;background:var(--soft)}
.blank{display:grid;place-items:center;padding:1rem;font-size:.875rem;text-align:center;color:var(--quiet)}
.sample figcaption{padding:.875rem 1rem 1rem}
.caption{font-size:1.0625rem;line-height:1.4;font-weight:550}
.caption.empty{font-weight:400}
.caption p{margin-top:.5rem;font-weight:400;font-size:.9375rem}
.references{margin-top:.75rem;font-size:.8125rem;line-height:1.45;color:var(--quiet)}
.references span{font-weight:600}
.references ul{list-style:none}
.references li{margin-top:.2rem}
.references details{margin-top:.2rem}

table{width:100%;border-collapse:collapse;font-size:.9375rem}
th,td{padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--edge);text-align:left;vertical-align:top;font-weight:400;unicode-bidi:isolate}
thead th{font-size:.8125rem;color:var(--quiet)}
.numbers td,.numbers th:not(:first-child){width:1%;padding:.5rem 0 .5rem 1rem;text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
tfoot th,tfoot td{border-bottom:0}
tfoot tr:first-child>*{font-weight:650}
tfoot small,tfoot bdi{display:block}
tfoot tr:first-child small{font-weight:400}
.kept>*{font-weight:650}
.kept small{color:var(--check)}
.share{display:flex;flex-wrap:wrap;align-items:center;gap:.25rem 1rem}
.share bdi{flex:0 0 8.5rem}
.bar{flex:1 1 7rem;height:.5rem;border-radius:.25rem;background:var(--soft);overflow:hidden}
.bar span{display:block;min-width:2px;height:100%;background:var(--train)}
.pairs th:first-child{width:34%}
.pairs th{color:var(--quiet)}
details:not(.caption)>summary{color:var(--quiet);font-size:.875rem;cursor:pointer}
.caption summary{cursor:pointer}
.references details>summary{font-size:inherit}
summary{border-radius:.25rem}
:focus-visible{outline:2px solid var(--train);outline-offset:2px}
footer{margin-top:3.5rem;padding-top:1rem;padding-bottom:2.5rem}
footer p{padding-top:1rem;border-top:1px solid var(--edge);font-size:.8125rem;color:var(--quiet)}

@media print{
@page{margin:16mm}
:root{color-scheme:light;${LIGHT}--ground:#fff;--raised:#fff}
body{font-size:10pt}
main,footer{max-width:none;padding-left:0;padding-right:0}
main{padding-top:0}
.chart,.sample,.notice,tr,dl{break-inside:avoid}
h2{break-after:avoid}
.samples{grid-template-columns:repeat(3,1fr)}
.status,.notice,.bar,.bar span,.legend i:after{-webkit-print-color-adjust:exact;print-color-adjust:exact}
.figures{grid-template-columns:repeat(var(--columns),1fr)}
.course{grid-template-columns:repeat(3,minmax(0,1fr))}
.large .axes{height:9rem}
.axes{height:7.5rem}
.references details{display:none}
section>details::details-content{content-visibility:visible;display:block;height:auto}
}
`;
