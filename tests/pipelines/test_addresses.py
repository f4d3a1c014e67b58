"""Where jobs write: the content of a request, of the code behind it and of the files it names decides, not its name."""

import pytest
from recipes import content

from ppflow.jobs import expand, fingerprint
from ppflow.jobs.fingerprint import code_version, input_versions
from ppflow.recipe import parse_recipe


def digests(root, **changes):
    graph = expand(parse_recipe(content(**changes), "r"), root)
    return {(job.stage, job.seed): digest for digest, job in graph.jobs.items()}


def moved(root, **changes):
    base, changed = digests(root), digests(root, **changes)
    return {stage for (stage, seed), digest in changed.items() if base.get((stage, seed)) != digest}


def test_folders_follow_the_request(tmp_path):
    assert moved(tmp_path, title="other words") == set()
    assert moved(tmp_path, params={"images": 3, "per": 3}) == {"letters", "pretrain", "both"}


def test_one_parameter_of_p_ssl_moves_p_ssl_alone(tmp_path):
    train = content()["train"]
    changed = {**train, "both": {**train["both"], "method.options": {"mu": 3}}}
    assert moved(tmp_path, train=changed) == {"both"}


def test_fewer_seeds_keep_their_folders(tmp_path):
    recipe = parse_recipe(content(), "r")
    few, many = expand(recipe.with_seeds(1), tmp_path), expand(recipe.with_seeds(3), tmp_path)
    assert few.jobs.keys() <= many.jobs.keys()


def test_a_stage_under_another_name_is_the_same_job_and_found_again(tmp_path):
    train = content()["train"]
    twice = parse_recipe(
        content(train={**train, "again": None}, rows={"A": "scratch", "B": "again"}, compare=[]), "r"
    )
    graph = expand(twice, tmp_path)
    assert graph.rows["", "A"] == graph.rows["", "B"]
    first = next(iter(graph.jobs.values()))
    first.folder.mkdir(parents=True)
    renamed = parse_recipe(content(train={"other": None}, rows={"A": "other"}, compare=[]), "r")
    assert next(iter(expand(renamed, tmp_path).jobs.values())).folder == first.folder


def test_what_files_hold_belongs_to_the_address(tmp_path):
    (tmp_path / "a").mkdir()
    image = tmp_path / "a/1.png"
    image.write_bytes(b"1")
    settings = {"data.target": str(tmp_path), "model.arch": "small"}

    def version():
        fingerprint._files_digest.cache_clear()
        return input_versions(settings)

    first = version()
    assert list(first) == [f"data.target {tmp_path}"]
    assert version() == first
    image.write_bytes(b"2")
    assert version() != first
    assert input_versions({"source": f"bank:train={tmp_path}/a/*.png"})
    assert input_versions({"data.target": "digits"}) == {}
    assert input_versions({"source": "letters"})  # the embedded kit's files


def test_own_code_belongs_to_the_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text("def net(): ...\n")
    first = input_versions({"model.arch": "mynet:net"})
    (tmp_path / "mynet.py").write_text("def net(): return 1\n")
    assert first
    assert input_versions({"model.arch": "mynet:net"}) != first


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (
            '"""Other words."""\n\n\n# a comment\ndef f(x):\n    """Doc."""\n    return x in {"a", "b", "c"}\n',
            True,
        ),
        ('def f(x):\n    return x in {"a", "b", "d"}\n', False),
        ('def f(x):\n    return x not in {"a", "b", "c"}\n', False),
    ],
)
def test_comments_are_no_code(tmp_path, monkeypatch, text, same):
    def version(content):
        (tmp_path / "m.py").write_text(content)
        code_version.cache_clear()
        return code_version("synth")

    monkeypatch.setattr(fingerprint, "_sources", lambda module: [tmp_path / "m.py"])
    first = version('def f(x):\n    return x in {"a", "b", "c"}\n')
    assert (version(text) == first) is same
    code_version.cache_clear()


def test_every_room_that_decides_a_result_counts():
    """A room of the packages is either part of a fingerprint or known to leave results alone."""
    from pathlib import Path

    import ppgen
    import pptrain

    counted = {m for modules in fingerprint._MODULES.values() for m in modules}
    for package, free in (
        (ppgen, {"cli", "doctor", "engines", "exchange", "journal", "quality", "upkeep"}),
        (pptrain, {"cli"}),
    ):
        rooms = {p.parent.name for p in Path(package.__file__).parent.glob("*/__init__.py")}
        assert {f"{package.__name__}.{room}" for room in rooms - free} <= counted
