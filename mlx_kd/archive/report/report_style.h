// The style sheet of report.html: light and dark by the reader's setting, one column on a phone,
// two on a desk. Colours after Okabe and Ito, which the colour-blind tell apart.
#pragma once

namespace mlx_kd::archive {

inline constexpr const char* kReportStyle = R"css(
:root { color-scheme: light dark; --paper: #f7f7f5; --card: #ffffff; --ink: #1c1d20; --muted: #62666d;
  --rule: #e2e2dd; --blue: #0072b2; --orange: #d55e00; --green: #009e73; --grey: #9aa0a8; --edge: #33333366; }
@media (prefers-color-scheme: dark) { :root { --paper: #131418; --card: #1c1e24; --ink: #e9e9e6;
  --muted: #a0a5ae; --rule: #33363f; --blue: #56b4e9; --orange: #f0a35e; --green: #3dd1a4; --grey: #767c87; --edge: #ffffff99; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 28px 16px 48px; }
header { margin-bottom: 22px; }
h1 { margin: 0; font-size: clamp(1.5rem, 4.5vw, 2.2rem); line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 4px; font-size: 1.06rem; }
h3 { margin: 18px 0 6px; font-size: .95rem; }
p { margin: 0 0 12px; } .lead { font-size: 1.1rem; margin: 6px 0 14px; }
.note { color: var(--muted); font-size: .875rem; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0; font-size: .875rem; }
.facts div { display: flex; gap: 6px; min-width: 0; } .facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px; min-width: 0; }
.wide { grid-column: 1 / -1; }
svg { display: block; width: 100%; height: auto; max-width: 620px; margin: 4px auto 0; }
svg text { font: 13.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--muted); font-variant-numeric: tabular-nums; }
svg text.strong { fill: var(--ink); font-weight: 600; }
line.grid { stroke: var(--rule); } .axis { stroke: var(--muted); } .track { fill: var(--rule); opacity: .55; }
.mark { stroke: var(--orange); stroke-width: 2; } .whisker { stroke: var(--ink); stroke-width: 1.5; }
.c0 { fill: var(--grey); } .c1 { fill: var(--blue); } .c2 { fill: var(--orange); }
.dot { stroke: var(--edge); stroke-width: .8; } .dot.c0 { fill-opacity: .55; stroke: none; }
.dot.ring { fill: none; stroke: var(--orange); stroke-width: 2.5; } .dot.failed { fill: var(--card); stroke: var(--muted); stroke-width: 1.3; }
polyline { fill: none; stroke-linejoin: round; } .best { stroke: var(--blue); stroke-width: 2.2; }
.walk { stroke: var(--muted); stroke-width: .8; stroke-opacity: .3; }
.tour { stroke-width: 1.3; stroke-opacity: .5; } .t0 { stroke: var(--blue); } .t1 { stroke: var(--green); } .t2 { stroke: var(--orange); } .t3 { stroke: var(--grey); }
.ramp { display: flex; align-items: center; gap: 8px; justify-content: center; color: var(--muted); font-size: .8rem; }
.ramp i { width: 120px; height: 10px; border-radius: 5px; background: linear-gradient(90deg, #00224e, #35456c, #666970, #948e77, #c8b866, #fee838); border: 1px solid var(--rule); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; white-space: nowrap; font-variant-numeric: tabular-nums; }
th { color: var(--muted); font-weight: 500; } td.n, th.n { text-align: right; } td.wrap { white-space: normal; min-width: 13em; overflow-wrap: anywhere; }
tr:last-child td { border-bottom: 0; } td.win { color: var(--green); font-weight: 600; }
code, pre { font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { margin: 10px 0 0; padding: 12px; overflow-x: auto; background: var(--paper); border: 1px solid var(--rule); border-radius: 8px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin: 10px 0 0; padding: 0; list-style: none; }
.chips li { padding: 1px 9px; border: 1px solid var(--rule); border-radius: 99px; background: var(--paper); }
summary { cursor: pointer; overflow-wrap: anywhere; } details + details { margin-top: 10px; }
footer { margin-top: 20px; color: var(--muted); font-size: .8125rem; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
)css";

}  // namespace mlx_kd::archive
