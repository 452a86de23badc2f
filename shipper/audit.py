"""What became of every byte: the ledger, printed by namespace, pod, container and output.

The same rows come from a running daemon (the status API) and from a state directory. An account that does not add up,
and a loss, are what it is there to show.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from shipper.checkpoint import CursorRow, GenerationRow
from shipper.dead_letters import printable
from shipper.ledger import DEAD, DELIVERED, SKIPPED, SPOOLED, UNMATCHED

FATES = (
    "delivered",
    "spooled",
    "filtered",
    "unmatched",
    "dead_lettered",
    "skipped",
    "lost",
    "in_doubt",
    "left_out",
    "pending",
)


class Account(msgspec.Struct, kw_only=True):
    """One container's log (or local file) and one output. All figures are bytes of the log file, lines and all."""

    output: str
    namespace: str = ""
    pod: str = ""
    container: str = ""
    path: str = ""
    seen: int = 0
    delivered: int = 0
    spooled: int = 0
    filtered: int = 0
    unmatched: int = 0
    dead_lettered: int = 0
    skipped: int = 0
    lost: int = 0
    in_doubt: int = 0  # gone with an earlier process: delivered or lost
    left_out: int = 0  # of what nobody is to have, as things are configured: not read, and no backlog
    pending: int = 0
    gaps: int = 0
    reasons: dict[str, int] = {}  # of what was filtered, lost or in doubt
    is_abandoned: bool = False  # the output is not configured any more
    is_left_out: bool = False  # the file, or this output for it; a configuration had it before
    errors: list[str] = []

    @property
    def who(self) -> tuple[str, str, str]:
        """For a terminal: namespace, pod (or the path of a local file) and container."""
        return printable(self.namespace), printable(self.pod or self.path), printable(self.container)

    @property
    def adds_up(self) -> bool:
        return not self.errors and self.seen == sum(getattr(self, fate) for fate in FATES)


def accounts(
    rows: Iterable[tuple[GenerationRow, Iterable[CursorRow]]], outputs: Sequence[str] | None = None
) -> list[Account]:
    """Sums generations of one container. `outputs`: those configured, where that is known.

    A cursor that is parked is one that no reading goes on at; of an output that is not configured, each is.
    """
    found: dict[tuple[str, ...], Account] = {}
    for generation, cursors in rows:
        for cursor in cursors:
            key = (
                cursor.output,
                generation.namespace or "",
                generation.pod or "",
                generation.container or generation.live_path,
            )
            account = found.setdefault(
                key,
                Account(
                    output=cursor.output,
                    namespace=_shown(generation.namespace),
                    pod=_shown(generation.pod),
                    container=_shown(generation.container),
                    path="" if generation.container else _shown(generation.live_path),
                    reasons={},
                    errors=[],
                    is_abandoned=outputs is not None and cursor.output not in outputs,
                    is_left_out=True,
                ),
            )
            _add(account, generation, cursor)
    for account in found.values():
        account.is_left_out = account.is_left_out and not account.is_abandoned
    return [found[key] for key in sorted(found)]


def _shown(name: str | None) -> str:
    """Names of files are any bytes: what is no UTF-8 in them, and so a lone surrogate, becomes an escape."""
    return (name or "").encode(errors="backslashreplace").decode()


def _add(account: Account, generation: GenerationRow, cursor: CursorRow) -> None:
    known = cursor.acked + sum(b - a for a, b in cursor.ahead)
    told = sum(cursor.fates.values())
    if known != told or known > max(generation.size, cursor.acked):
        account.errors.append(f"generation {generation.id}: {known} bytes are behind the cursor, {told} have a fate")
    rest, is_parked = max(generation.size, known) - known, cursor.parked_at is not None
    account.seen += known + rest
    if is_parked or account.is_abandoned:
        account.left_out += rest
    else:
        account.pending += rest
    account.is_left_out = account.is_left_out and is_parked
    account.gaps += generation.gaps
    plain = (DELIVERED, SPOOLED, UNMATCHED, DEAD, SKIPPED)
    for fate, count in cursor.fates.items():
        if fate in plain:
            setattr(account, fate, getattr(account, fate) + count)
            continue
        kind = fate.partition(":")[0]
        setattr(account, kind, getattr(account, kind) + count)
        account.reasons[fate] = account.reasons.get(fate, 0) + count


def verdict(found: Sequence[Account]) -> list[str]:
    """What is wrong, as sentences; empty when every byte is accounted for."""
    out = []
    for account in found:
        who = printable(account.path or f"{account.namespace}/{account.pod}/{account.container}")
        if not account.adds_up:
            out.append(f"{who}, output {account.output}: does not add up: {'; '.join(account.errors) or 'sums differ'}")
        if account.in_doubt:
            out.append(f"{who}, output {account.output}: {account.in_doubt} bytes are gone, delivered or not")
        if account.gaps:
            out.append(f"{who}, output {account.output}: {account.gaps} times a file went away unseen, size unknown")
    return out


def sums(found: Sequence[Account]) -> list[Account]:
    """By output and namespace, then by output; `pod` and `container` (and `namespace`) are `*` then."""
    out = []
    for output, of_output in groupby(found, lambda a: a.output):
        mine = list(of_output)
        for namespace, group in groupby(mine, lambda a: a.namespace):
            out.append(_sum(list(group), output, namespace))
        out.append(_sum(mine, output, "*"))
    return out


def _sum(found: Sequence[Account], output: str, namespace: str) -> Account:
    total = Account(output=output, namespace=namespace, pod="*", container="*", reasons={}, errors=[])
    total.is_abandoned = all(a.is_abandoned for a in found)
    for name in ("seen", "gaps", *FATES):
        setattr(total, name, sum(getattr(a, name) for a in found))
    return total


def table(found: Sequence[Account]) -> str:
    """For a terminal, with sums where there is more than one row; columns without any bytes are left out."""
    used = [fate for fate in FATES if fate in ("delivered", "lost", "pending") or any(getattr(a, fate) for a in found)]
    rows = [["NAMESPACE", "POD", "CONTAINER", "OUTPUT", "SEEN", *(f.upper() for f in used), "OK"]]
    totals = {(a.output, a.namespace): a for a in sums(found)}
    outputs = {a.output for a in found}
    for output, of_output in groupby(found, lambda a: a.output):
        mine = list(of_output)
        for namespace, group in groupby(mine, lambda a: a.namespace):
            members = list(group)
            rows += [_row(a, used) for a in members]
            if len(members) > 1 and len(members) < len(mine):
                rows.append(_row(totals[output, namespace], used, is_sum=True))
        if len(mine) > 1 and len(outputs) > 1:
            rows.append(_row(totals[output, "*"], used, is_sum=True))
    rows.append(_row(_sum(found, "all", ""), used, is_sum=True))
    rows[-1][:4] = ["", "", "", "all"]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 4 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(account: Account, used: Sequence[str], *, is_sum: bool = False) -> list[str]:
    mark = " (abandoned)" if account.is_abandoned else " (left out)" if account.is_left_out else ""
    figures = [str(account.seen), *(str(getattr(account, fate)) for fate in used)]
    ok = "" if is_sum else "yes" if account.adds_up and not account.gaps and not account.in_doubt else "NO"
    return [*account.who, account.output + mark, *figures, ok]


def as_json(found: Sequence[Account]) -> Mapping[str, Any]:
    return {
        "accounts": [{**msgspec.structs.asdict(a), "adds_up": a.adds_up} for a in found],
        "sums": [{"output": a.output, "namespace": a.namespace, **_figures(a)} for a in sums(found)],
        "problems": verdict(found),
    }


def _figures(account: Account) -> dict[str, int]:
    return {name: getattr(account, name) for name in ("seen", *FATES, "gaps")}


def from_json(said: Mapping[str, Any]) -> list[Account]:
    """What `as_json` was made of. Raises msgspec.ValidationError."""
    return msgspec.convert(said["accounts"], list[Account])
