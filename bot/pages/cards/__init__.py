"""Model cards: README.md of a published repo, made of its record, the source's metadata and its chat template."""

from collections.abc import Collection, Sequence
from urllib.parse import quote

from bot import format_folders
from bot.errors import RecordError
from bot.formats import recipes
from bot.formats.registry import Format, all_formats
from bot.pages import figures, numbers, templates
from bot.pages.cards import metadata
from bot.records.artifacts import Json, Release, RepoRecord
from bot.source.prompt import Prompt


def render_card(
    *,
    record: RepoRecord,
    repo_id: str,
    release: Release,
    prompt: Prompt,
    pictures: Collection[str] = (),
    endpoint: str = "https://huggingface.co",
) -> str:
    """Return the card of the repo ``repo_id``, which holds what ``record`` says.

    ``release`` is the source of the newest build in it, ``prompt`` an example in that source's prompt format,
    ``pictures`` the names of those that lie beside the card (see bot/pages/plots.py), ``endpoint`` the Hub that the
    source is on. Equal arguments give equal text. Raises RecordError when the builds are not all of one known format.
    """
    form = _format(record)
    rows = figures.rows(record.builds, release)
    choices = figures.choices(rows)
    head = metadata.head(record, release, chats=prompt.chats, endpoint=endpoint)
    template = templates.environment().get_template(f"{form.name}.md.j2")
    return f"{head}\n" + template.render(
        title=form.title,
        repo_id=repo_id,
        release=release,
        links=_links(release, endpoint),
        license=metadata.license_of(release, endpoint),
        rows=rows,
        best=choices[0].best,
        device=format_folders.on_device(form.name, choices[0].target),
        choices=choices,
        close=figures.CLOSE_PERCENT,
        measured=figures.measured(rows, release),
        figure=numbers.with_error,
        nats=numbers.nats,
        pictures=pictures,
        prompt=prompt,
        context=figures.context(release),
        switch=figures.switch(release),
        origins=figures.origins(rows),
        copies=list(dict.fromkeys(row.build.read_as for row in rows if row.build.read_as)),
        matrices=figures.matrices(rows),
        calibrations=figures.calibrations(rows),
        mixes=figures.mixes(rows),
        trials=figures.trials(rows),
        checks=figures.checks(rows),
        checksums=figures.checksums(rows),
        reproduce=_reproduce(release, rows),
    )


def _format(record: RepoRecord) -> Format:
    names = {b.build.variant.format for b in record.builds}
    known = all_formats()
    if len(names) != 1 or not names <= known.keys():
        raise RecordError(
            f"a record with builds of {', '.join(sorted(names)) or 'no format'}",
            hint=f"A repo holds one format: {', '.join(known)}.",
        )
    return known[names.pop()]


def _links(release: Release, endpoint: str) -> dict[str, str | None]:
    if release.commit is None:
        return {"source": None, "commit": None, "origin": None, **_base_links(release.base, endpoint)}
    source = f"{endpoint}/{quote(release.repo_id)}"
    origin = f"{endpoint}/{quote(release.origin)}" if release.origin else None
    commit = f"{source}/tree/{quote(release.commit)}"
    return {"source": source, "commit": commit, "origin": origin, **_base_links(release.base, endpoint)}


def _base_links(base: Release | None, endpoint: str) -> dict[str, str | None]:
    """Return where an adapter's base is, and its commit; None for no base, and for a folder."""
    if base is None or base.commit is None:
        return {"base": None, "base_commit": None}
    repo = f"{endpoint}/{quote(base.repo_id)}"
    return {"base": repo, "base_commit": f"{repo}/tree/{quote(base.commit)}"}


def _reproduce(release: Release, rows: Sequence[figures.CardRow]) -> dict[str, Json]:
    model = f"{release.repo_id}@{release.commit}" if release.commit else f"./{release.name}"
    return {
        "model": model,
        "variants": ",".join(r.build.variant.name for r in rows),
        "settings": [
            setting
            for setting, of in (
                ('build.imatrix_from_4_bits = "measured"', recipes.is_tried),
                ('build.quality = "calibrated"', lambda v: v.is_calibrated and v.size_limit is None),
            )
            if any(of(r.build.variant) for r in rows)
        ],
    }
