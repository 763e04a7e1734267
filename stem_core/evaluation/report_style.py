"""The look of the report: the colours of the pages, light and dark."""

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--back:#fff;--soft:#f2f5f6;--text:#1c262b;--quiet:#56666d;
--line:#d5dde0;--model:#0b6577;--draw:#c2570c;--other:#7a878d;--measured:#1c262b;--best:#dcf0f3}
@media(prefers-color-scheme:dark){:root{--back:#12181b;--soft:#1c2529;--text:#e6ecee;
--quiet:#a3b1b7;--line:#36434a;--model:#4fb9cd;--draw:#f0975a;--other:#93a1a7;--measured:#e6ecee;
--best:#173d46}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1280px;padding:2rem 1.5rem 4rem;background:var(--back);
color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.75rem;margin:0 0 .3rem}h2{font-size:1.3rem;margin:2.6rem 0 .6rem;
border-top:1px solid var(--line);padding-top:1.6rem}h3{font-size:1.05rem;margin:1.6rem 0 .5rem}
a,summary{color:var(--model)}p,ul{margin:.4rem 0;max-width:78ch}li{margin:.2rem 0}
.quiet{color:var(--quiet)}.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.28rem .7rem;text-align:right;border-bottom:1px solid var(--line);
vertical-align:top;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
thead th{border-bottom:2px solid var(--line);font-weight:600;white-space:normal;
vertical-align:bottom}
@media(max-width:1100px){body{padding:1.5rem 1rem 3rem}table{font-size:.84rem}
th,td{padding:.28rem .4rem}td small{font-size:.7rem}}
th.group{text-align:left;color:var(--quiet);font-weight:600;padding-top:.9rem}
th.row{font-weight:400}th.left,td.left{text-align:left}
td small,th small{display:block;color:var(--quiet);font-size:.78rem;font-weight:400}
td.best{background:var(--best);font-weight:650}td.best small{font-weight:400;color:var(--text)}
th.draws,td.draws{color:var(--quiet)}th.own{color:var(--model)}
table.words td,table.words th{text-align:left;white-space:normal;min-width:9rem}
table.words i{color:var(--quiet);font-style:normal}
td.worse{color:var(--draw)}
table.facts td,table.facts th{text-align:left;white-space:normal;font-weight:400}
table.facts th{color:var(--quiet);padding-left:0}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:1rem}
figure{margin:0;background:var(--soft);border-radius:.4rem;padding:.6rem .5rem .5rem}
svg{display:block;width:100%;max-width:460px;height:auto;margin:0 auto}
figcaption{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.82rem;justify-content:center}
.key{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.4em}
.model{--c:var(--model)}.draw{--c:var(--draw)}.other{--c:var(--other)}.measured{--c:var(--measured)}
.key{background:var(--c)}.dot{fill:var(--c);fill-opacity:.6}
.dots{stroke:var(--c);stroke-width:4.5;stroke-linecap:round;stroke-opacity:.65;fill:none}
svg text{font-family:inherit!important}
details{margin:.8rem 0}summary{cursor:pointer}
@media print{body{max-width:none}figure{break-inside:avoid}}
"""
