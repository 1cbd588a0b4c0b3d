"""What was packed comes out again, whatever happens to the parts on their way."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from gpu import build_pycuda, kit, needs, unpack, wheels

HERE = f"cp{sys.version_info.major}{sys.version_info.minor}"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def wheel(folder, name, tags="py3-none-any", **files):
    path = folder / f"{name}-1.0-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for at, text in files.items():
            archive.writestr(at, text)
    return path


@pytest.fixture
def wheelhouse(tmp_path):
    folder = tmp_path / "house"
    folder.mkdir()
    wheel(folder, "plain", **{"plain.py": "x = 1\n"})
    wheel(folder, "fast", f"{HERE}-{HERE}-any", **{"fast/__init__.py": "y = 2\n"})
    wheel(folder, "fast", "cp38-cp38-any", **{"fast/__init__.py": "y = 'too old'\n"})
    wheel(folder, "pycuda", f"{HERE}-{HERE}-any", **{"pycuda/driver.py": "z = 3\n"})
    merged = {"odd-1.0.data/purelib/odd.py": "w = 4\n", "odd-1.0.data/scripts/odd": "#!"}
    wheel(folder, "odd", **merged)
    return folder


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept\n")
    (folder / ".gitignore").write_text("*.log\n")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    (folder / "new.txt").write_text("not committed yet\n")
    (folder / "noise.log").write_text("ignored\n")
    return folder


@pytest.fixture
def packed(tmp_path, wheelhouse, repository):
    """A kit of some ten parts."""
    out = tmp_path / "kit"
    wanted = kit.Wanted((VERSION,), ("plain", "fast", "pycuda", "odd"), clips=False, part_bytes=150)
    kit.pack(wanted, out, wheelhouse=wheelhouse, root=repository)
    return out


def unpacked(folder, into, python=sys.executable):
    return subprocess.run(
        [python, "-I", str(folder / "unpack"), "--into", str(into)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def parts(folder):
    return sorted(folder.glob("part-*"))


def assert_whole(into):
    assert (into / "site/plain.py").read_text() == "x = 1\n"
    assert (into / "site/fast/__init__.py").read_text() == "y = 2\n"
    assert (into / "site/pycuda/driver.py").read_text() == "z = 3\n"
    assert (into / "site/odd.py").read_text() == "w = 4\n"
    assert (into / "streamer/kept.txt").read_text() == "kept\n"
    assert (into / "streamer/new.txt").read_text() == "not committed yet\n"
    assert not (into / "streamer/noise.log").exists()


def test_what_was_packed_comes_out_again(packed, tmp_path):
    into = tmp_path / "into"
    done = unpacked(packed, into)
    assert (done.returncode, done.stderr) == (0, "")
    assert_whole(into)
    assert f'PYTHONPATH="{into}/site:{into}/streamer' in (into / "environment").read_text()
    facts = json.loads((packed / "kit.json").read_text())
    assert facts["revision"].endswith("+"), "uncommitted changes are marked"


@pytest.mark.parametrize("version", ["3.10", "3.12"])
def test_it_unpacks_with_another_python_and_its_standard_library_alone(packed, tmp_path, version):
    python = wheels.find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    into = tmp_path / "into"
    done = unpacked(packed, into, python)
    assert (done.returncode, done.stderr) == (0, "")
    assert (into / "site/plain.py").is_file()
    assert not (into / "site/fast").exists()
    assert f"no wheel of fast for Python {version}" in done.stdout


def test_no_part_is_larger_than_wanted_and_the_last_may_be_smaller(packed):
    sizes = [path.stat().st_size for path in parts(packed)]
    assert len(sizes) > 5
    assert set(sizes[:-1]) == {150}
    assert 0 < sizes[-1] <= 150


def test_a_missing_part_is_named_and_the_rest_is_kept_until_it_comes(packed, tmp_path):
    into, later = tmp_path / "into", tmp_path / "later"
    shutil.move(parts(packed)[2], later)
    done = unpacked(packed, into)
    assert done.returncode == unpack.INCOMPLETE
    assert done.stdout.splitlines()[1:] == ["part-002: missing"]
    for path in parts(packed):
        path.unlink()  # They are done: the machine's disk may be small.
    shutil.move(later, packed / "part-002")
    assert unpacked(packed, into).returncode == 0
    assert_whole(into)


def test_a_damaged_part_is_named_and_can_be_brought_again(packed, tmp_path):
    into, path = tmp_path / "into", parts(packed)[1]
    intact = path.read_bytes()
    path.write_bytes(intact[:50] + bytes([intact[50] ^ 1]) + intact[51:])
    done = unpacked(packed, into)
    assert done.returncode == unpack.INCOMPLETE
    assert "part-001: damaged, bring it again" in done.stdout
    assert not (into / "site").exists()
    path.write_bytes(intact)
    assert unpacked(packed, into).returncode == 0
    assert_whole(into)


def test_a_part_cut_short_on_its_way_is_damaged(packed, tmp_path):
    path = parts(packed)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert "part-000: damaged" in unpacked(packed, tmp_path / "into").stdout


def test_parts_may_come_one_at_a_time_and_in_any_order(packed, tmp_path):
    into, waiting = tmp_path / "into", tmp_path / "waiting"
    waiting.mkdir()
    names = [path.name for path in parts(packed)]
    for path in parts(packed):
        shutil.move(path, waiting / path.name)
    for name in reversed(names):
        shutil.move(waiting / name, packed / name)
        done = unpacked(packed, into)
        assert done.returncode == (0 if name == names[0] else unpack.INCOMPLETE)
        (packed / name).unlink()
    assert_whole(into)


def test_what_changed_on_the_disk_after_unpacking_is_noticed(packed, tmp_path):
    into = tmp_path / "into"
    shutil.move(parts(packed)[-1], tmp_path / "last")
    assert unpacked(packed, into).returncode == unpack.INCOMPLETE
    half = into / "unfinished" / "0"
    half.write_bytes(b"\0" * half.stat().st_size)
    shutil.move(tmp_path / "last", packed / f"part-{len(parts(packed)):03d}")
    done = unpacked(packed, into)
    assert done.returncode == 1
    assert "is not what was packed" in done.stderr
    assert unpacked(packed, into).returncode == 0, "all parts are here: it begins anew"
    assert_whole(into)


def test_unpacking_again_changes_nothing(packed, tmp_path):
    into = tmp_path / "into"
    assert unpacked(packed, into).returncode == 0
    (into / "streamer/kept.txt").write_text("changed there\n")
    assert unpacked(packed, into).returncode == 0
    assert (into / "streamer/kept.txt").read_text() == "changed there\n"


def test_a_folder_without_a_kit_is_an_error_in_words(tmp_path):
    shutil.copy(Path(unpack.__file__), tmp_path / "unpack")
    done = unpacked(tmp_path, tmp_path / "into")
    assert done.returncode == 1
    assert "no kit at" in done.stderr


def test_a_kit_cannot_write_outside_of_its_folder(tmp_path):
    content = b"x" * 10
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "part-000").write_bytes(content)
    facts = {
        "files": [{"path": "../outside", "size": 10, "sha256": sha256}],
        "parts": [{"name": "part-000", "begin": 0, "size": 10, "sha256": sha256}],
    }
    (tmp_path / "kit.json").write_text(json.dumps(facts))
    assert unpack.main(["--kit", str(tmp_path), "--into", str(tmp_path / "into")]) == 1
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("name", "version", "runs"),
    [
        ("a-1-py3-none-any.whl", (3, 12), True),
        ("a-1-py2.py3-none-any.whl", (3, 12), True),
        ("a-1-py2-none-any.whl", (3, 12), False),
        ("a-1-cp312-cp312-any.whl", (3, 12), True),
        ("a-1-cp311-cp311-any.whl", (3, 12), False),
        ("a-1-cp39-abi3-any.whl", (3, 12), True),
        ("a-1-cp313-abi3-any.whl", (3, 12), False),
        ("a-1-cp311-none-any.whl", (3, 11), True),
        ("a-1-cp311-none-any.whl", (3, 12), False),
        ("a-1-cp313-cp313t-any.whl", (3, 13), False),
        ("a-1-py3-none-manylinux_2_28_sparc.whl", (3, 12), False),
        ("a-1-2-py3-none-any.whl", (3, 12), True),
    ],
)
def test_a_wheel_runs_where_its_name_says(name, version, runs):
    assert unpack.fits(name, version) is runs


def test_a_package_without_a_wheel_is_named(wheelhouse, tmp_path):
    with pytest.raises(wheels.WheelError, match=r"no wheel of nothing for Python 3\.12"):
        wheels.gather(["nothing"], ["3.12"], tmp_path / "into", wheelhouse=wheelhouse)


def test_a_report_of_the_machine_says_what_to_pack_and_for_which_python(tmp_path):
    environment = {"lacking": ["av", "ruamel_yaml"], "python": {"version": "3.12.3"}}
    report = tmp_path / "gpu.json"
    report.write_text(json.dumps({"sections": {"environment": {"figures": environment}}}))
    assert kit.read_options([], None, report, ["tests"]) == (
        ("3.12",),
        ("av", "ruamel-yaml", *needs.TESTS),
    )


def test_something_else_than_a_report_is_refused(tmp_path):
    (tmp_path / "gpu.json").write_text("{}")
    with pytest.raises(kit.KitError, match="no report of gpu_check"):
        kit.read_options([], None, tmp_path / "gpu.json", [])


def test_left_alone_everything_is_packed_for_both_pythons():
    pythons, packages = kit.read_options([], None, None, [])
    assert pythons == ("3.11", "3.12")
    assert {"numpy", "av", "onnxruntime", "pycuda", "pytest", "onnx"} <= set(packages)
    assert not {"colorama", "openvino-telemetry", "ruff", "torch"} & set(packages)


def test_the_lock_is_read_for_the_python_it_is_packed_for():
    old, new = (needs.locked(version)["numpy"] for version in ("3.11", "3.12"))
    assert needs.numbers(old.version) <= needs.numbers(new.version)
    assert new.hashes
    assert all(one.startswith("sha256:") for one in new.hashes)


@pytest.mark.parametrize(
    ("installed", "bound", "will_do"),
    [
        ("18.1.0", ">=18,<19", True),
        ("19.0", ">=18,<19", False),
        ("4.11.0.86", ">=5", False),
        ("5.0.0.93", ">=5", True),
        ("2.5", "", True),
    ],
)
def test_a_version_that_will_not_do_counts_as_lacking(installed, bound, will_do):
    assert needs.allowed(installed, bound) is will_do


def test_every_locked_bound_of_the_project_is_kept_by_its_locks():
    known = needs.locked("3.11")
    for name, bound in needs.bounds().items():
        assert needs.allowed(known[name].version, bound), name


def test_pycuda_is_linked_to_a_stand_in_with_every_function_of_the_driver(tmp_path):
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no compiler here")
    include = tmp_path / "cuda" / "include"
    include.mkdir(parents=True)
    (include / "cuda.h").write_text("#define cuCtxCreate cuCtxCreate_v2\nCUresult cuInit(int);")
    (include / "cudaProfiler.h").write_text("CUresult cuProfilerStart(void);")
    assert build_pycuda._stand_in(tmp_path, compiler) == [str(include)]
    library = (tmp_path / "libcuda.so").read_bytes()
    for name in ("cuInit", "cuCtxCreate_v2", "cuProfilerStart", "libcuda.so.1"):
        assert name.encode() in library


def test_without_the_drivers_header_pycuda_is_not_built(tmp_path):
    headers = wheel(tmp_path, "headers", **{"include/cudaProfiler.h": ""})
    with pytest.raises(build_pycuda.BuildError, match=r"no cuda\.h|no C"):
        build_pycuda.build(tmp_path / "none", [headers], into=tmp_path, python=sys.executable)
