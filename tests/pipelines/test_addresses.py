"""Folders of jobs follow from the request, the code of the packages and the files that the settings name, not from stage names."""

from types import SimpleNamespace

from recipes import content

from ppflow.jobs import expand, graph
from ppflow.jobs.graph import code_version, files_digest, input_versions
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
        files_digest.cache_clear()
        return input_versions(settings)

    first = version()
    assert list(first) == [f"data.target {tmp_path}"]
    assert version() == first
    image.write_bytes(b"2")
    assert version() != first
    assert input_versions({"source": f"bank:train={tmp_path}/a/*.png"})
    assert input_versions({"data.target": "digits", "source": "letters"}) == {}


def test_own_code_belongs_to_the_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text("def net(): ...\n")
    first = input_versions({"model.arch": "mynet:net"})
    (tmp_path / "mynet.py").write_text("def net(): return 1\n")
    assert first
    assert input_versions({"model.arch": "mynet:net"}) != first


def test_an_edit_of_a_package_moves_the_stages_that_it_runs(tmp_path, monkeypatch):
    for package in ("ppcore", "ppgen", "pptrain"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "cached.pyc").touch()
    found = {
        name: SimpleNamespace(origin=str(tmp_path / name / "__init__.py"))
        for name in ("ppcore", "ppgen", "pptrain")
    }
    monkeypatch.setattr(graph, "find_spec", found.get)

    def versions():
        code_version.cache_clear()
        files_digest.cache_clear()
        return {kind: code_version(kind) for kind in ("synth", "pseudo", "train", "refit", "export")}

    def edited(file):
        before = versions()
        (tmp_path / file).write_text(file)
        return {kind for kind, version in versions().items() if version != before[kind]}

    assert edited("pptrain/loop.py") == {"train", "refit", "export"}
    assert edited("ppgen/plan.py") == {"synth", "pseudo"}
    assert len(edited("ppcore/seeds.py")) == 5
    assert edited("ppcore/cached.pyc") == set()
    code_version.cache_clear()
    files_digest.cache_clear()
