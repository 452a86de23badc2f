from pathlib import Path

from shipper.config.model import Config
from shipper.config.reference import PAGE, markdown
from shipper.config.shapes import ByType, ListOf, fields_of


def test_the_page_is_up_to_date() -> None:
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert written == markdown(), f"{PAGE} is stale: run `make docs`, and commit it"


def test_every_key_of_every_component_is_on_the_page() -> None:
    page = markdown()
    for part in fields_of(Config):
        if isinstance(part.shape, ListOf) and isinstance(part.shape.item, ByType):
            for kind, model in part.shape.item.table.items():
                section = page.split(f"### {kind}\n")[1].split("\n#")[0]
                missing = [f.name for f in fields_of(model) if f"| `{f.name}` |" not in section]
                assert missing == []


def test_every_key_is_explained_in_a_sentence() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `") and line.count(" | ") == 3]
    assert len(rows) > 80
    assert [row for row in rows if not row.rsplit(" | ", 1)[1].removesuffix(" |").endswith(".")] == []


def test_links_of_the_page_lead_somewhere() -> None:
    assert "(../config/)" in markdown()
    assert Path("config").is_dir()
