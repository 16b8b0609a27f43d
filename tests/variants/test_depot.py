"""What was built on one machine is found by another through any fsspec URL, whole and undamaged, or not at all."""

from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from driftline.errors import DriftlineError
from driftline.protocols import Sampling
from variants import depot
from variants.build import build
from variants.open import open_variant
from variants.recipe import Spec

ASKED = [({"role": "user", "content": "What is water?"},)]


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/artifacts"


@pytest.fixture
def made(tiny_spec: Spec) -> Spec:
    return tiny_spec.then("bf16").then("layer_drop", layers=[1])


def machine(tmp_path: Path, name: str) -> Path:
    place = tmp_path / name
    place.mkdir()
    return place


def weights_at(url: str) -> list[str]:
    filesystem, root = fsspec.core.url_to_fs(url)
    return [place for place in filesystem.find(root) if "/built/" not in place]


def test_another_machine_opens_what_was_built_here_without_building(made: Spec, url: str, tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    build(made, here)
    sent = depot.push(made, here, url)
    fetched = depot.pull(made, there, url)

    said: list[str] = []
    again = build(made, there, said.append)
    assert not [note for note in said if "layer_drop" in note or "bf16" in note]
    assert (sent > 0, fetched) == (True, 2)  # the base lies outside: where it is, it is used
    assert (again.key, again.bytes_stored) == (build(made, here).key, build(made, here).bytes_stored)
    ours, theirs = (open_variant(made, place).generate(ASKED, Sampling(max_tokens=4)) for place in (here, there))
    assert [one.text for one in ours] == [one.text for one in theirs]


def test_files_lie_under_their_hash_once(made: Spec, url: str, tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    build(made, here)
    depot.push(made, here, url)
    first = weights_at(url)
    assert depot.push(made, here, url) == 0
    assert weights_at(url) == first
    filesystem, _ = fsspec.core.url_to_fs(url)
    for place in first:
        with filesystem.open(place, "rb") as file:
            (tmp_path / "copy").write_bytes(file.read())
        assert depot.shelf.file_sha256(tmp_path / "copy") == place.rsplit("/", 1)[1]


def test_what_arrives_damaged_is_built_instead(made: Spec, url: str, tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    build(made, here)
    depot.push(made, here, url)
    filesystem, _ = fsspec.core.url_to_fs(url)
    for place in weights_at(url):
        content = filesystem.cat_file(place)
        filesystem.pipe_file(place, bytes(len(content)))

    said: list[str] = []
    assert depot.pull(made, there, url, said.append) == 0
    assert any("arrived damaged" in note for note in said)
    assert build(made, there).key == build(made, here).key
    assert not list(there.glob(".building-*"))


def test_a_depot_that_lost_a_file_gives_nothing(made: Spec, url: str, tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    build(made, here)
    depot.push(made, here, url)
    filesystem, _ = fsspec.core.url_to_fs(url)
    for place in weights_at(url):
        filesystem.rm(place)
    assert depot.pull(made, there, url) == 0


def test_an_index_of_documents_travels_too(tiny_spec: Spec, url: str, tmp_path: Path, files: dict[str, Path]) -> None:
    asking = tiny_spec.then("rag", documents=str(files["documents"]), meaning=False)
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    build(asking, here)
    depot.push(asking, here, url)
    assert depot.pull(asking, there, url) == 1


def test_a_url_that_cannot_be_used_is_named(made: Spec, tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    build(made, here)
    with pytest.raises(DriftlineError, match="nowhere://x, which cannot be opened"):
        depot.push(made, here, "nowhere://x")
    wall = tmp_path / "wall"
    wall.write_text("a file where a folder is needed")
    with pytest.raises(DriftlineError, match="cannot be reached"):
        depot.push(made, here, f"file://{wall}/artifacts")
