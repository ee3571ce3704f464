"""phi-bot.toml: what is taken from where, and what a person is told when it is wrong."""

import dataclasses
import functools
import json
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bot import catalogue, config
from bot.config import Config, file
from bot.config import tables as tables
from bot.config.machines import RunnerTable
from bot.config.places import PublishTable
from bot.errors import ConfigError

SCHEMA_FILE = Path(config.__file__).with_name("phi-bot.schema.json")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, environ: dict[str, str] | None = None) -> Config:
    Path("phi-bot.toml").write_text(text, encoding="utf-8")
    return config.load(None, environ=environ or {})


# ---- what is taken from where --------------------------------------------------------------------------------


def test_without_a_file_everything_has_its_default() -> None:
    assert config.load(None, environ={}) == Config()


def test_a_file_in_the_current_folder_is_found() -> None:
    assert load('[publish]\nnamespace = "phi-people"').publish.namespace == "phi-people"


def test_every_key_can_be_set(tmp_path: Path) -> None:
    got = load(
        """
        hub.endpoint = "http://127.0.0.1:8080/"
        [watch]
        authors = ["microsoft", "phi-people"]
        include = ["Phi-4*"]
        exclude = ["*-onnx"]
        [build]
        variants = ["gguf/q4_k_m", "mlx"]
        work = "scratch"
        threads = 3
        [verify]
        cost = { int4 = 0.5, fp32 = 1 }
        [publish]
        namespace = "phi-people"
        private = true
        """
    )
    assert got == Config(
        hub=tables.HubTable(endpoint="http://127.0.0.1:8080"),
        watch=tables.WatchTable(authors=("microsoft", "phi-people"), include=("Phi-4*",), exclude=("*-onnx",)),
        build=tables.BuildTable(variants=("gguf/q4_k_m", "mlx"), work=tmp_path / "scratch", threads=3),
        verify=tables.VerifyTable(cost=tables.CostTable(int4=0.5, fp32=1.0)),
        publish=PublishTable(namespace="phi-people", private=True),
    )
    assert (got.times("int4"), got.times("fp32"), got.times("int8")) == (0.5, 1.0, tables.CostTable().int8)


def test_a_table_of_a_name_of_the_persons_own_is_a_runner() -> None:
    got = load(
        """
        [runner.big-one]
        system = "linux"
        cores = 32
        memory = 128
        disk = 1000.5
        price = 1
        labels = ["self-hosted", "big"]
        """
    )
    big = RunnerTable(system="linux", cores=32, memory=128.0, disk=1000.5, price=1.0, labels=("self-hosted", "big"))
    assert got.runner == {"big-one": big}


def test_a_relative_key_starts_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load('[publish.sign]\nkey = "keys/mine.pem"').publish.sign.key == tmp_path / "keys" / "mine.pem"
    assert load('[publish.sign]\nkey = "~/mine.pem"').publish.sign.key == tmp_path / "mine.pem"
    assert load("").publish.sign.key is None


def test_a_relative_work_folder_starts_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "other.toml").write_text('[build]\nwork = "../work"')
    assert config.load(Path("project/other.toml"), environ={}).build.work == tmp_path / "project" / ".." / "work"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load('[build]\nwork = "~/work"').build.work == tmp_path / "work"


def test_the_environment_fills_in_keys_missing_from_the_file(tmp_path: Path) -> None:
    environ = {"HF_ENDPOINT": "https://hub.example/", "PHI_BOT_CACHE": str(tmp_path / "cache")}
    silent = load("", environ)
    assert silent.hub.endpoint == "https://hub.example"
    assert silent.build.work == tmp_path / "cache" / "work"
    assert load("", {"PHI_BOT_CACHE": "cache"}).build.work == tmp_path / "cache" / "work"
    assert load("", {"HF_ENDPOINT": "", "PHI_BOT_CACHE": ""}) == Config()
    outspoken = load('hub.endpoint = "https://other.example"\nbuild.work = "here"', environ)
    assert outspoken.hub.endpoint == "https://other.example"
    assert outspoken.build.work == tmp_path / "here"


def test_the_command_line_takes_precedence_and_is_checked_too(tmp_path: Path) -> None:
    got = load('hub.endpoint = "https://other.example"').replace(
        endpoint="http://localhost:1/", work=Path("there"), namespace="me"
    )
    assert (got.hub.endpoint, got.publish.namespace) == ("http://localhost:1", "me")
    assert got.build.work == tmp_path / "there"
    assert Config().replace() == Config()
    with pytest.raises(ConfigError, match=r'^--namespace is "a b"; allowed is the name of a user'):
        Config().replace(namespace="a b")
    with pytest.raises(ConfigError, match=r"^the environment variable HF_ENDPOINT is not the URL of a Hub; allowed is"):
        load("", {"HF_ENDPOINT": "hub.example"})
    with pytest.raises(
        ConfigError, match=r"^the environment variable PHI_BOT_CACHE is in the home folder of an unknown user"
    ):
        load("", {"PHI_BOT_CACHE": "~nobody-of-this-name"})


def test_a_file_saved_by_windows_reads_the_same() -> None:
    Path("phi-bot.toml").write_bytes(b'\xef\xbb\xbf[publish]\r\nnamespace = "me"\r\n')
    assert config.load(None, environ={}).publish.namespace == "me"


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().build.threads = 1  # type: ignore[misc]


def test_every_precision_of_the_catalogue_has_a_policy() -> None:
    for variant in catalogue.all_variants().values():
        assert 0 < Config().times(variant.precision) < math.inf


# ---- what is wrong -------------------------------------------------------------------------------------------

WRONG = {
    # a text: the line, and what the message says
    "[build]\nthredas = 3": (
        2,
        'unknown key "thredas" in [build]; did you mean threads? Allowed are variants, work, threads',
    ),
    "\n\n[buidl]\nthreads = 3": (
        3,
        'unknown key "buidl" at the top; did you mean build? Allowed are the tables hub, run, watch,',
    ),
    "# mine\nthreads = 3": (2, 'unknown key "threads" at the top; it belongs in [build]'),
    "[verify.cost]\nint4 = 1\nint44 = 1": (3, "did you mean int4?"),
    '"a\\nb" = 1': (1, 'unknown key "a\\nb" at the top. Allowed'),
    "build = 3": (1, "build is 3; allowed is a table [build]"),
    "[[build]]": (1, "build is a list; allowed is a table [build]"),
    '[build]\nthreads = "many"': (2, 'build.threads is "many"; allowed is a whole number from 1 to 1024'),
    "[build]\nthreads = true": (2, "build.threads is true"),
    "[build]\nthreads = 1.0": (2, "build.threads is 1.0"),
    "[build]\nthreads = 0": (2, "build.threads is 0"),
    "[build]\nthreads = 5000": (2, "build.threads is 5000"),
    "build.threads = 2026-11-22": (1, "build.threads is a date or a time"),
    '[build]\nwork = ""': (2, 'build.work is ""; allowed is the path of a folder'),
    '[build]\nwork = "~nobody-of-this-name/x"': (2, "build.work is in the home folder of an unknown user"),
    "[build]\nvariants = []": (2, "build.variants is an empty list; allowed is a list with one or more of"),
    "[build]\nvariants = 'default'": (2, 'build.variants is "default"; allowed is a list'),
    "[build]\n\nvariants = [\n  'default',\n  3,\n]": (
        3,
        'build.variants[1] is 3; allowed is "default", FORMAT, FORMAT/*, or a row that `phi-bot variants` lists',
    ),
    "[build]\nvariants = ['gguf/q4_k']": (2, "unknown variant 'gguf/q4_k'. Did you mean gguf/q4_k"),
    "[watch]\nauthors = ['microsoft', 'a b']": (
        2,
        'watch.authors[1] is "a b"; allowed is the name of a user or an organisation',
    ),
    "[watch]\ninclude = []": (2, "watch.include is an empty list"),
    "[watch]\ninclude = ['microsoft/Phi-*']": (
        2,
        'watch.include[0] is "microsoft/Phi-*"; allowed is a pattern on a model',
    ),
    "[watch]\nexclude = 'x'": (2, 'watch.exclude is "x"; allowed is a list of'),
    "verify.cost = { int4 = 0 }": (
        1,
        "verify.cost.int4 is 0; allowed is a number above 0, in multiples of the cost of plain rounding",
    ),
    "[verify.cost]\nint4 = -1.5": (2, "verify.cost.int4 is -1.5"),
    "[verify]\ncost.int4 = inf": (2, "verify.cost.int4 is Infinity; allowed is a finite number above 0"),
    "[verify]\ncost.int4 = nan": (2, "verify.cost.int4 is NaN; allowed is a finite number above 0"),
    "[build]\n[verify.gates]\nint4 = 0.2": (
        2,
        "verify.gates is gone: bounds in nats hold for no two models. Set [verify.cost]",
    ),
    "[plan]\nmax_cost = inf": (2, "plan.max_cost is Infinity; allowed is a finite number, 0 or above"),
    "[build]\nthreads = 0x1" + "0" * 5000: (2, "threads is a number of more than 60 digits; allowed is a whole number"),
    "verify.cost = 0.5": (1, "verify.cost is 0.5; allowed is a table [verify.cost]"),
    "[publish]\nprivate = 'no'": (2, 'publish.private is "no"; allowed is true or false'),
    "[publish]\nprivate = 1": (2, "publish.private is 1"),
    "[publish]\nnamespace = 'me/you'": (
        2,
        'publish.namespace is "me/you"; allowed is the name of a user or an organisation',
    ),
    "[publish]\nnamespace = ''": (2, 'publish.namespace is ""'),
    "[publish]\nnamespace = '-me'": (2, 'publish.namespace is "-me"'),
    "[publish]\nnamespace = 'a--b'": (2, 'publish.namespace is "a--b"'),
    "[publish]\nnamespace = '" + "a" * 97 + "'": (2, "aaa…; allowed"),
    "[hub]\nendpoint = 'huggingface.co'": (2, "hub.endpoint is not the URL of a Hub; allowed is an https:// address"),
    "[hub]\nendpoint = 'ftp://huggingface.co'": (2, 'hub.endpoint is "ftp://huggingface.co"'),
    "[hub]\nendpoint = 'http://huggingface.co'": (2, "hub.endpoint would send your token unencrypted"),
    "[hub]\nendpoint = 'http://localhost.example.com'": (2, "hub.endpoint would send your token unencrypted"),
    "[hub]\nendpoint = 'https://h.co:port'": (2, "hub.endpoint is not a URL"),
    "[hub]\nendpoint = 'https://h.co?x=1'": (2, "hub.endpoint is not the URL of a Hub"),
    "[announce]\nstatus_page = 'http://h.co/'": (2, 'announce.status_page is "http://h.co/"; allowed is an https://'),
    # tables with names of the person's own
    "runner = 1": (1, "runner is 1; allowed is a table [runner]"),
    "[runner]\nbig = 1": (2, "runner.big is 1; allowed is a table [runner.big]"),
    "[runner]\n[runner.'a b']\ncores = 1": (2, 'runner["a b"] is "a b"; allowed is a name of letters'),
    "[runner.big]\ncores = 1\nmemory = 1\ndisk = 1": (
        1,
        'runner.big.system is missing; allowed is "linux", "macos" or "windows"',
    ),
    "[runner.big]\nsystem = 'linux'\ncores = 0": (3, "runner.big.cores is 0; allowed is a whole number"),
    "[runner.big]\nsystem = 'linux'\ncore = 1": (3, 'unknown key "core" in [runner.big]; did you mean cores?'),
    # no TOML at all
    "[build\n": (1, "not TOML: "),
    "[build]\nthreads = 1\nthreads = 2": (3, "not TOML: "),
    "[hub]\n\nendpoint = 'x": (3, "not TOML: "),
    "[hub]\nendpoint = '''x\n\n": (4, "not TOML: "),
    "x = 1" + "0" * 5000: (1, "not TOML: "),
    "x = " + "[" * 5000: (1, "not TOML"),
}


@pytest.mark.parametrize("text", WRONG, ids=[t[:40] for t in WRONG])
def test_a_wrong_file_is_refused_in_one_line_with_the_place_and_the_allowed_values(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    line, said = WRONG[text]
    assert caught.value.message.startswith(f"phi-bot.toml:{line}: ")
    assert said in caught.value.message
    assert caught.value.message.isprintable()  # so it is one line
    assert caught.value.hint


@pytest.mark.parametrize("scheme", ["https", "http", "ftp"])
def test_a_password_in_the_endpoint_is_not_repeated(scheme: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f'[hub]\nendpoint = "{scheme}://me:hf_secret@hub.example /"')
    assert "hf_secret" not in f"{caught.value.message} {caught.value.hint}"
    assert "HF_TOKEN" in caught.value.message


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read nowhere\.toml: No such file"):
        config.load(Path("nowhere.toml"), environ={})
    with pytest.raises(ConfigError, match=r"^cannot read .*: Is a directory"):
        config.load(tmp_path, environ={})
    Path("latin.toml").write_bytes("# Größe\n\n# Maß".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"^latin\.toml:1: .*UTF-8"):
        config.load(Path("latin.toml"), environ={})


# ---- the line of a key ---------------------------------------------------------------------------------------

names = st.text("abcdefgh-_", min_size=1, max_size=4)
noise = st.sampled_from(["", "# a = 1", "#[a]", "   "])
plain_values = st.sampled_from(["1", '"a = 1"', "'[a]'", "[1, 2]", "{ a = 1 }", "1979-05-27T07:32:00Z"])
long_values = st.sampled_from(['"""\na = 1\n[a]\n"""', "'''\n\n#'''", '[\n  1, # a = 1\n  "[a]",\n]', "[\n[\n]\n]"])


@given(
    tables=st.dictionaries(names, st.dictionaries(names, st.one_of(plain_values, long_values), max_size=4), max_size=4),
    style=st.sampled_from(["headers", "dotted", "quoted"]),
    data=st.data(),
)
def test_the_line_of_every_key_is_found(tables: dict[str, dict[str, str]], style: str, data: st.DataObject) -> None:
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for table, entries in tables.items():
        if style != "dotted":
            lines += [*data.draw(st.lists(noise, max_size=2)), f"[{table}]"]
            expected[(table,)] = len(lines)
        for name, value in entries.items():
            lines += data.draw(st.lists(noise, max_size=2))
            left = {"headers": name, "dotted": f"{table} . {name}", "quoted": f'"{name}"'}[style]
            expected.setdefault((table,), len(lines) + 1)
            expected[(table, name)] = len(lines) + 1
            lines += f"{left} = {value}".split("\n")
    text = "\n".join(lines)
    assert {at: file.line_of(text, at) for at in expected} == expected, text


# ---- the schema ----------------------------------------------------------------------------------------------


@pytest.mark.process
def test_the_shipped_schema_is_the_one_the_module_writes() -> None:
    written = subprocess.run([sys.executable, "-m", "bot.config"], capture_output=True, text=True, check=True).stdout
    assert written == SCHEMA_FILE.read_text(encoding="utf-8"), "python -m bot.config > bot/config/phi-bot.schema.json"


def test_the_shipped_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def test_its_defaults_are_the_defaults_of_the_code() -> None:
    def defaults(schema: dict[str, Any]) -> dict[str, Any]:
        return {
            k: defaults(v) if "properties" in v else {} if "propertyNames" in v else v.get("default")
            for k, v in schema["properties"].items()
        }

    written = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    by_code = dataclasses.asdict(Config())
    by_code["build"] |= {"work": None, "threads": None}  # they depend on the machine
    assert defaults(written) == json.loads(json.dumps(by_code))


owners = st.sampled_from(["microsoft", "a", "A_b.c-d", "a--b", "..", "", "a/b", "-a", "a" * 96, "a" * 97, "é"])
texts = st.text("aZ é*~/\\\"'\t\x01😀", max_size=5)
wrong_types = st.one_of(st.booleans(), st.integers(), st.sampled_from([1.5, {}]), st.lists(st.integers(), max_size=2))
VALUES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "hub": {"endpoint": st.sampled_from(["https://h.co", "http://localhost:8", "", "h.co", "ftp://h.co", "https://"])},
    "watch": {
        "authors": st.lists(owners, max_size=2),
        "include": st.lists(st.one_of(texts, st.just("Phi-*")), max_size=2),
        "exclude": st.lists(texts, max_size=2),
    },
    "build": {
        "variants": st.lists(st.sampled_from(["default", "gguf", "mlx/*", ""]), max_size=2),
        "work": st.one_of(texts, st.just("\0")),
        "threads": st.one_of(st.integers(-1, 3), st.integers(1020, 1030)),
    },
    "publish": {"namespace": owners, "private": st.booleans()},
}
OWN_RUNNER = {"system": st.sampled_from(["linux", "macos", "beos"]), "cores": st.integers(0, 3)}
OWN_RUNNER |= {"memory": st.sampled_from([0, 1, 16.5, 10**6]), "disk": st.sampled_from([0.5, 100])}
settings_of_a_file = st.fixed_dictionaries(
    {},
    optional={
        table: st.fixed_dictionaries({}, optional={k: st.one_of(v, v, v, wrong_types) for k, v in keys.items()})
        for table, keys in VALUES.items()
    }
    | {
        "runner": st.dictionaries(
            st.sampled_from(["big", "a b", ""]),
            st.one_of(
                st.fixed_dictionaries(OWN_RUNNER),
                st.fixed_dictionaries(
                    {}, optional=OWN_RUNNER | {"labels": st.lists(texts, max_size=2), "core": st.just(1)}
                ),
                wrong_types,
            ),
            max_size=2,
        ),
        "verify": st.fixed_dictionaries(
            {},
            optional={
                "cost": st.dictionaries(
                    st.sampled_from(["int4", "fp32", "int7"]),
                    st.one_of(st.floats(-1, 9), st.integers(-1, 9), wrong_types),
                )
            },
        ),
        "unknown": st.just(1),
    },
)


VALIDATOR = Draft202012Validator(config.json_schema())


@given(settings_of_a_file)
def test_the_schema_and_the_code_accept_the_same_settings(settings: dict[str, Any]) -> None:
    text = _toml(settings)
    assert tomllib.loads(text) == settings
    by_schema = VALIDATOR.is_valid(settings)
    try:
        load(text)
        by_code = True
    except ConfigError as error:
        by_code = False
        # what no schema says: whether there is such a host, such a home folder
        if re.search(r"is not (a|the) URL|home folder", error.message):
            return
    assert by_schema == by_code


def _toml(value: dict[str, Any]) -> str:
    return "\n".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def test_a_missing_namespace_is_an_error_that_says_its_purpose() -> None:
    assert Config().replace(namespace="me").namespace("nothing can be published") == "me"
    with pytest.raises(ConfigError, match="nothing can be published") as refused:
        Config().namespace("nothing can be published")
    assert "--namespace" in refused.value.hint


# ---- phi-bot init --------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_does_nothing_for_now_and_shows_every_key() -> None:
    config.init(Path("phi-bot.toml"))
    text = Path("phi-bot.toml").read_text(encoding="utf-8")
    assert config.load(None, environ={}) == dataclasses.replace(Config(), run=tables.RunTable(dry_run=True))
    assert Draft202012Validator(config.json_schema()).is_valid(tomllib.loads(text))

    set_all = re.sub(r"^# (?=[a-z0-9_]+ = |\[)", "", text, flags=re.MULTILINE)
    settings = tomllib.loads(set_all)
    assert Draft202012Validator(config.json_schema()).is_valid(settings)
    assert [at for at, _ in file.keys(Config)] == list(_paths(settings))
    shown = load(set_all)
    examples = {"publish.namespace", *(f"plan.max_{what}" for what in ("jobs", "cost", "jobs_per_model"))}
    examples |= {"plan.max_cost_per_model", "hf_jobs.namespace", "announce.repository", "announce.status_page"}
    examples |= {"run.dry_run", "publish.sign.key"}
    examples |= {"build.work", "build.threads", "work.keep.gigabytes"}
    for at, _ in file.keys(Config):
        if ".".join(at) not in examples and file.ANY_NAME not in at:
            assert _value(shown, at) == _value(Config(), at)


def _value(settings: Any, at: tuple[str, ...]) -> Any:
    return functools.reduce(getattr, at, settings)


def _paths(table: dict[str, Any]) -> list[tuple[str, ...]]:
    nested = ([(k, *p) for p in _paths(v)] if isinstance(v, dict) else [(k,)] for k, v in table.items())
    return [path for paths in nested for path in paths]


def test_init_never_overwrites() -> None:
    Path("phi-bot.toml").write_text("# mine")
    with pytest.raises(ConfigError, match=r"^phi-bot\.toml is there already$"):
        config.init(Path("phi-bot.toml"))
    assert Path("phi-bot.toml").read_text() == "# mine"
    with pytest.raises(ConfigError, match=r"^cannot write missing/phi-bot\.toml: No such file"):
        config.init(Path("missing/phi-bot.toml"))


def test_a_machine_without_the_file_takes_its_text_from_the_environment() -> None:
    environ = {"PHI_BOT_TOML": '[publish]\nnamespace = "me"\n'}
    assert config.load(None, environ=environ).publish.namespace == "me"
    with pytest.raises(ConfigError, match=r"^\$PHI_BOT_TOML:2: unknown key"):
        config.load(None, environ={"PHI_BOT_TOML": "[publish]\nnamesapce = 1"})
    Path("phi-bot.toml").write_text('[publish]\nnamespace = "file"')
    assert config.load(None, environ=environ).publish.namespace == "file"
