"""The status as a page for people: one view of what is delivered, what waits, and what is wrong. A pure function.

No script, and nothing from elsewhere: what names of pods and errors of servers say is text, and can be nothing else.
"""

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

REFRESH_S = 5
MOST_FILES = 10

STYLE = """
:root { color-scheme: light dark; --line: #8886; --bad: #b3261e; --good: #1b6e3c; --dim: #666 }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7bd88f; --dim: #aaa } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 76rem; padding: 0 1rem }
h1 { font-size: 1.3rem; margin: 0 } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
header p, footer { color: var(--dim); margin: .2rem 0 }
dl { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0 }
dl div { border: 1px solid var(--line); border-radius: .4rem; padding: .45rem .8rem }
dt { color: var(--dim); font-size: .85rem } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
thead th { color: var(--dim); font-weight: 500; font-size: .85rem; white-space: nowrap }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.bad { color: var(--bad); font-weight: 600 } .good { color: var(--good) } .dim { color: var(--dim) }
td.path, td.error { overflow-wrap: anywhere; min-width: 14rem }
"""
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
LINKS = (
    ("/metrics", "metrics", "for Prometheus"),
    ("/healthz", "healthz", "whether the pipeline makes progress"),
    ("/readyz", "readyz", "whether inputs run and outputs were reached"),
    ("/api/v1/status?pretty", "status", "inputs, files, outputs"),
    ("/api/v1/audit?pretty", "audit", "what became of every byte"),
)


def render(status: Mapping[str, Any], *, is_still: bool = False, now: float | None = None) -> str:
    """`status`: what /api/v1/status says. `is_still`: it is not to refresh itself."""
    now = time.time() if now is None else now
    troubles = _troubles(status)
    title = f"{'! ' if troubles else ''}shipper on {status['node']}"
    refresh = "" if is_still else f'<meta http-equiv="refresh" content="{REFRESH_S}">'
    again = f'<a href="/">refresh every {REFRESH_S} s</a>' if is_still else '<a href="/?still">stop refreshing</a>'
    links = "; ".join(f'<a href="{to}">{name}</a>: {text}' for to, name, text in LINKS)
    return "".join(
        (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8">{refresh}',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<header><h1>shipper on {escape(str(status['node']))}</h1><p>{_about(status, now)}; {again}</p></header>",
            f"<main>{_verdict(troubles)}{_figures(status)}{_outputs(status, now)}",
            f"{_inputs(status)}{_files(status)}</main>",
            f"<footer><p>{links}</p></footer></body></html>\n",
        )
    )


def _about(status: Mapping[str, Any], now: float) -> str:
    encoder = "native encoder" if status["native"] == "yes" else "Python encoder"
    parts = [f"version {status['version']}, {encoder}, up for {show_time(now - status['started_at'])}"]
    reload = status.get("reload") or {}
    if reload.get("last_success_at"):
        parts.append(f"configuration of {show_time(now - reload['last_success_at'])} ago")
    parts.append(f"as of {time.strftime('%H:%M:%S', time.gmtime(now))} UTC")
    return escape("; ".join(parts))


def _troubles(status: Mapping[str, Any]) -> list[str]:
    """Sentences, the worst first."""
    out = [f"{o['name']} has lost {show_size(o['lost_bytes'])}" for o in status["outputs"] if o.get("lost_bytes")]
    out += [
        f"{show_size(o['in_doubt_bytes'])} went away with a process that was killed; {o['name']} has them or not"
        for o in status["outputs"]
        if o.get("in_doubt_bytes")
    ]
    gaps = sum(1 for o in status["outputs"] if o.get("gaps"))
    out += ["files went away unseen, nobody knows how large: see the audit"] if gaps else []
    if error := status["checkpoint"]["last_error"]:
        out.append(f"the checkpoint cannot be written: {error}")
    out += [f"{o['name']} does not get through" for o in status["outputs"] if o["state"] == "retrying"]
    out += ["nothing is read: no output has room"] if status["paused"] else []
    last = (status.get("reload") or {}).get("last") or {}
    out += [f"the last reload was refused: {problem}" for problem in last.get("problems", ())]
    out += [f"{i['name']}: {len(i['unreadable'])} files cannot be read" for i in status["inputs"] if i["unreadable"]]
    if (status.get("kubernetes") or {}).get("error"):
        out.append(f"the Kubernetes API: {status['kubernetes']['error']}")
    return out


def _verdict(troubles: Sequence[str]) -> str:
    if not troubles:
        return '<p class="good">All is well.</p>'
    items = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in troubles)
    return f'<ul class="bad" role="status">{items}</ul>'


def _figures(status: Mapping[str, Any]) -> str:
    outputs = status["outputs"]
    lost = max((o.get("lost_bytes", 0) for o in outputs), default=0)
    figures = [
        ("records a second, first read", show_rate(sum(i.get("records_per_s", 0.0) for i in status["inputs"]))),
        ("behind, at most", show_time(max((o.get("backlog_seconds", 0.0) for o in outputs), default=0.0))),
        ("backlog, at most", show_size(max((o.get("backlog_bytes", 0) for o in outputs), default=0))),
        ("lost", show_size(lost)),
        ("dead letters", f"{sum(o.get('rejected_records', 0) for o in outputs):,}"),
    ]
    if kubernetes := status.get("kubernetes"):
        figures.append(("pods known", f"{kubernetes.get('pods', 0):,}"))
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures) + "</dl>"


def _outputs(status: Mapping[str, Any], now: float) -> str:
    rows = []
    for o in status["outputs"]:
        state = o["state"]
        if state == "retrying" and o.get("retry_at"):
            state += f", again in {show_time(max(0.0, o['retry_at'] - now))}"
        rows.append(
            [
                _head(o["name"], o["type"]),
                _cell(state, "bad" if o["state"] == "retrying" else ""),
                _cell(show_rate(o.get("records_per_s", 0.0)), "n"),
                _cell(f"{o.get('delivered_records', 0):,}", "n"),
                _cell(show_size(o.get("backlog_bytes", 0)), "n"),
                _cell(show_time(o.get("backlog_seconds", 0.0)), "n"),
                _cell(show_size(o["in_flight_bytes"]), "n"),
                _cell(show_size(o["spool_bytes"]) if "spool_bytes" in o else "", "n"),
                _cell(show_size(o.get("lost_bytes", 0)), "n bad" if o.get("lost_bytes") else "n"),
                _cell(_error(o, now), "error"),
            ]
        )
    for o in status.get("removed_outputs", ()):
        left = f"removed {show_time(now - o['since'])} ago; kept until its history is over"
        rows.append([_head(o["name"]), _cell(left, "dim"), *[_cell("")] * 2, _cell(show_size(o["left_bytes"]), "n")])
        rows[-1] += [_cell("")] * 5
    heads = (
        "output",
        "state",
        "records/s",
        "delivered",
        "backlog",
        "behind",
        "in flight",
        "spool",
        "lost",
        "last error",
    )
    return _table("Outputs", heads, rows, numbers=range(2, 9))


def _error(output: Mapping[str, Any], now: float) -> str:
    error = output.get("last_error")
    if isinstance(error, Mapping):  # with what mends it
        return f"{error.get('error', '')}; {error.get('mend', '')}".strip("; ")
    at = output.get("last_error_at")
    return f"{error} ({show_time(now - at)} ago)" if error and at else str(error or "")


def _inputs(status: Mapping[str, Any]) -> str:
    rows = [
        [
            _head(i["name"], ", ".join(i["path"])),
            _cell(show_rate(i.get("records_per_s", 0.0)), "n"),
            _cell(f"{i['files']:,}", "n"),
            _cell(f"{i['open_files']:,}", "n"),
            _cell(f"{i['excluded']:,}", "n"),
            _cell("; ".join(f"{path}: {why}" for path, why in list(i["unreadable"].items())[:3]), "error"),
        ]
        for i in status["inputs"]
    ]
    heads = ("input", "records/s", "files", "open", "excluded", "cannot be read")
    return _table("Inputs", heads, rows, numbers=range(1, 5))


def _files(status: Mapping[str, Any]) -> str:
    rows = [
        [
            _cell(f["path"], "path"),
            _cell(show_size(f["size"]), "n"),
            _cell(", ".join(f"{name} {show_size(count)}" for name, count in f["backlog_bytes"].items() if count)),
            _cell("metadata" if f["waits_for_metadata"] else ""),
        ]
        for f in status["files"][:MOST_FILES]
    ]
    if not rows:
        return ""
    more = len(status["files"]) - len(rows)
    title = f"Files with backlog (the largest {MOST_FILES})" if more > 0 else "Files with backlog"
    return _table(title, ("file", "size", "backlog", "waits for"), rows, numbers=(1,))


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Iterable[int]) -> str:
    right = set(numbers)
    head = "".join(f'<th scope="col"{" class=n" if i in right else ""}>{name}</th>' for i, name in enumerate(heads))
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<h2>{title}</h2><div class="scroll">{table}</div>'


def _head(name: str, about: str = "") -> str:
    beside = f' <span class="dim">{escape(about)}</span>' if about else ""
    return f'<th scope="row">{escape(name)}{beside}</th>'


def _cell(value: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<td{attribute}>{escape(value)}</td>"


def show_size(count: float) -> str:
    """`0 B`, `12.3 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def show_time(seconds: float) -> str:
    """`0 s`, `3.5 min`, `2.0 h`, `9 d`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} d"


def show_rate(per_s: float) -> str:
    return f"{per_s:,.1f}" if 0 < per_s < 10 else f"{per_s:,.0f}"
