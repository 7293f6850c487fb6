"""chart.py - the bars of performance.md as a picture (SVG), by hand: measured against wanted.

Each bar's length is measured / wanted (wanted / measured where less is better), so that the line at 1
is what is asked for, and everything right of it is met.
"""
from xml.sax.saxutils import escape

WIDTH, LINE, LEFT, RIGHT = 900, 24, 430, 120
MOST = 3.0


def chart(results):
    bars = [bar for r in results for bar in r['bars']]
    height = 64 + LINE * len(bars)
    unit = (WIDTH - LEFT - RIGHT) / MOST
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
           '<style>text{fill:#16222b}.quiet{fill:#5d6b76}.back{fill:#fff}.met{fill:#18794e}.missed{fill:#c62a2f}.line{stroke:#16222b}'
           '@media(prefers-color-scheme:dark){text{fill:#e3eaf0}.quiet{fill:#93a3b0}.back{fill:#0e1419}.line{stroke:#e3eaf0}}</style>',
           f'<rect class="back" width="{WIDTH}" height="{height}"/>',
           '<text x="12" y="24" font-size="15" font-weight="bold">Shoal against its bars</text>',
           f'<text class="quiet" x="{LEFT + unit:.0f}" y="40" text-anchor="middle">what is asked for</text>']
    for i, bar in enumerate(bars):
        y = 50 + i * LINE
        value, wanted = max(bar['value'], 1e-9), max(bar['wanted'], 1e-9)
        share = wanted / value if bar['less'] else value / wanted
        length = unit * min(share, MOST)
        text = f'{bar["value"]:g} ({"&lt;=" if bar["less"] else "&gt;="} {bar["wanted"]:g})'
        out.append(f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(bar["what"])}</text>'
                   f'<rect class="{"met" if share >= 1 else "missed"}" x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="15" rx="2"/>'
                   f'<text class="quiet" x="{LEFT + length + 6:.0f}" y="{y + 13}">{text}</text>')
    out.append(f'<line class="line" x1="{LEFT + unit:.0f}" x2="{LEFT + unit:.0f}" y1="46" y2="{height - 10}" stroke-dasharray="3 3"/></svg>')
    return '\n'.join(out) + '\n'
