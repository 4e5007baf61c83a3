"""The page's style sheet: system fonts, light and dark, colours for ten series."""

LIGHT = (
    "#2563c9", "#d9730d", "#1a8a55", "#b3297f", "#7a5bd0",
    "#0e8ca3", "#a5761b", "#c0392b", "#5d6b7a", "#6b8e23",
)  # fmt: skip
DARK = (
    "#7fb0ff", "#ffab5e", "#5fd39b", "#ff8ad0", "#b8a2ff",
    "#63d4ea", "#e4bd63", "#ff8f82", "#aab6c4", "#b6d36a",
)  # fmt: skip


def _variables(series: tuple[str, ...], **named: str) -> str:
    pairs = {**{f"c{i}": colour for i, colour in enumerate(series)}, **named}
    return "".join(f"--{name}:{colour};" for name, colour in pairs.items())


_LIGHT = _variables(
    LIGHT, paper="#fdfdfc", ink="#1d2126", soft="#5c6570", rule="#dfe2e6", band="#f4f5f6",
    good="#1a8a55", bad="#c0392b", goodwash="#dcf3e6", badwash="#fbe1dd",
)  # fmt: skip
_DARK = _variables(
    DARK, paper="#15181c", ink="#e5e8ec", soft="#9aa4b0", rule="#333a42", band="#1d2126",
    good="#4fc98d", bad="#ff7f72", goodwash="#173b2a", badwash="#4a2320",
)  # fmt: skip
_SERIES = "".join(f".c{i}{{--own:var(--c{i})}}" for i in range(len(LIGHT)))

STYLE = (
    f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
"""
    + (
        "body{margin:0;background:var(--paper);color:var(--ink);"
        "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
        "main{max-width:1080px;margin:0 auto;padding:32px 24px 64px}"
        "h1{font-size:26px;line-height:1.2;margin:0 0 16px}"
        "h2{font-size:19px;margin:44px 0 8px}h3{font-size:15px;margin:24px 0 8px}"
        "p{margin:0 0 12px;max-width:76ch}"
        "dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0 0 20px}"
        "dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}"
        ".definitions{gap:12px 18px}"
        ".definitions dt{color:var(--ink);font-weight:600;max-width:16ch}"
        ".definitions dd{max-width:80ch}"
        ".told{border-left:3px solid var(--c0);padding:2px 0 2px 16px}.told p{margin:6px 0}"
        ".wide{overflow-x:auto}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}"
        "th,td{padding:6px 10px;text-align:left;vertical-align:top;"
        "border-bottom:1px solid var(--rule)}"
        "th{font-weight:600;border-bottom:2px solid var(--rule);white-space:nowrap}"
        ".rows,.runs{font-size:13px}.rows td:not(:first-child){white-space:nowrap}"
        "td.n{text-align:right;white-space:nowrap}"
        ".matrix th:not(:first-child){text-align:right}"
        "small{display:block;color:var(--soft);font-size:12px;font-weight:400;line-height:1.35}"
        "tr.twins td{background:var(--band)}"
        "td.better,tr.better td:last-child{background:var(--goodwash)}"
        "td.worse,tr.worse td:last-child{background:var(--badwash)}"
        "td.better small,td.worse small{color:inherit}"
        "svg{max-width:100%;height:auto;overflow:visible}"
        "svg text{fill:var(--soft);font-size:11.5px;font-family:inherit}"
        ".grid{stroke:var(--rule);stroke-width:1}.frame{fill:none;stroke:var(--rule)}"
        ".twin{stroke:var(--ink);stroke-width:1.3;stroke-dasharray:5 4;opacity:.6}"
        ".line{fill:none;stroke:var(--own);stroke-width:1.8;stroke-linejoin:round}"
        ".bar{stroke:var(--own);stroke-width:1.6;opacity:.75}.fill{fill:var(--own)}"
        ".mark{stroke:var(--paper);stroke-width:.15}"
        ".good{--own:var(--good)}.bad{--own:var(--bad)}"
        ".panels{display:flex;flex-wrap:wrap;gap:14px 28px}"
        ".legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;max-width:none}"
        ".key{display:inline-flex;align-items:center;gap:6px}"
        ".nothing{color:var(--soft);font-style:italic}"
        "summary{cursor:pointer;margin:20px 0 8px}"
        "@media (max-width:640px){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}}"
    )
    + _SERIES
)
