"""The sites: those that come with hpcsgd, and what is refused in one of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.errors import UsageError
from hpcsgd.launch.site import load_site, site_names, slurm_directory
from hpcsgd.scaling.network import LEVELS, read_network
from hpcsgd.study.machine import Level, Network

MINIMAL = 'title = "mine"\ntasks_per_node = 4\n'
PBS = MINIMAL + 'scheduler = "pbs"\nlauncher = "mpiexec"\n'
FLUX = MINIMAL + 'scheduler = "flux"\nlauncher = "flux"\n'


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_sites_that_come_with_hpcsgd() -> None:
    expected = ["alps", "aurora", "frontier", "generic", "generic_flux", "generic_pbs", "juwels_booster"]
    expected += ["local_cluster", "lumi", "perlmutter", "polaris", "tuolumne", "vista"]
    assert site_names() == expected
    for name in expected:
        site = load_site(name)
        assert site.name == name
        assert site.exports["HDF5_USE_FILE_LOCKING"] == "FALSE"
        assert "OMP_NUM_THREADS" in site.exports


@pytest.mark.parametrize("name", site_names())
def test_a_site_says_what_its_values_come_from(name: str) -> None:
    lines = (slurm_directory() / "sites" / f"{name}.toml").read_text().splitlines()
    comment = " ".join(line for line in lines if line.startswith("#"))
    assert any(word in comment for word in ("come from", "Read in", "was tried there"))
    if not name.startswith(("generic", "local_cluster")):
        assert "may have changed them" in comment


def test_a_site_of_ones_own(tmp_path: Path) -> None:
    site = load_site(written(tmp_path, MINIMAL + 'modules = ["a"]\nsetup = ["b"]\n[exports]\nX = 3\nY = "z"\n'))
    assert site.name == "mine"
    assert site.launcher == "srun"
    assert site.exports == {"X": "3", "Y": "z"}
    assert site.setup_lines == ("module load a", "b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks_per_node = 4", "title is missing"),
        (MINIMAL + "cpu_per_task = 3", "unknown key cpu_per_task; did you mean cpus_per_task?"),
        (MINIMAL + "name = 'x'", "unknown key name"),
        (MINIMAL + "[srun]\noptions = []", "unknown key srun"),
        (MINIMAL + "launcher = 'srunn'", "must be one of srun, mpirun, ibrun, mpiexec, flux; did you mean srun?"),
        (MINIMAL + "scheduler = 'pbspro'", "must be one of slurm, pbs, flux"),
        (MINIMAL + "scheduler = 'pbs'", "launcher is 'srun': it must be of PBS's, which are mpiexec, mpirun"),
        (MINIMAL + "launcher = 'flux'", "launcher is 'flux': it must be of Slurm's, which are srun, mpirun, ibrun"),
        (MINIMAL + "queue = 'debug'", "left out: Slurm has account, partition, qos, constraint, reservation"),
        (PBS + "partition = 'x'", "partition is 'x': it must be left out: PBS has account, queue"),
        (PBS + "required = ['qos']", "qos is None: it must be left out"),
        (PBS + "max_restarts = 3", "PBS lets no user put a job back into the queue (qrerun is its operators')"),
        (PBS + "gpu_request = 'gres'", "gres is Slurm's"),
        (PBS + "qsub_options = ['debug']", "it must be options of qsub"),
        (
            FLUX + "max_restarts = 3",
            "Flux puts no job back into the queue: leave it out; hpcsgd resubmit --failed sends",
        ),
        (MINIMAL + "required = ['accounts']", "did you mean account?"),
        (MINIMAL + "cpus_per_task = '7'", "cpus_per_task is '7': it must be an integer"),
        (MINIMAL + "cpus_per_task = 0", "cpus_per_task is 0: it must be 1 or more"),
        (MINIMAL + "cpus_per_task = 9223372036854775808", "it must be 1 or more, and at most 65535"),
        (MINIMAL + "signal_seconds = 70000", "signal_seconds is 70000: it must be 1 or more, and at most 65535"),
        (MINIMAL + "max_restarts = -1", "max_restarts is -1: it must be 0 or more"),
        (MINIMAL + "whole_nodes = 1", "it must be true or false"),
        (MINIMAL + "gpus_per_node = true", "it must be an integer"),
        (MINIMAL + "gpus_per_node = 2", "gpus_per_node is 2: it must be 0, or tasks_per_node = 4 or more"),
        (MINIMAL + "modules = 'a'", "it must be a list"),
        (MINIMAL + "exports = ['A=1']", "it must be a table"),
        (MINIMAL + "[exports]\nA-B = 1", "exports is 'A-B'"),
        (MINIMAL + "[exports]\nA = 1.5", "exports.A is 1.5: it must be a text"),
        (MINIMAL + "time = '1h'", "time is '1h'"),
        (MINIMAL + 'setup = ["a\\nb"]', "it must be one line"),
        (MINIMAL + "sbatch_options = ['exclusive']", "sbatch_options is 'exclusive'"),
        ("title = ", "mine.toml: "),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_site(written(tmp_path, text))
    assert str(refused.value).startswith(f"{tmp_path / 'mine.toml'}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL + 'time = "10"\ntasks_per_node = 2\n', "tasks_per_node is given twice, in lines 2 and 4"),
        (MINIMAL + "[exports]\nA = 1\n[exports]\nB = 1\n", "exports is given twice, in lines 3 and 5"),
        (MINIMAL + "[exports]\nA = 1\nB = 2\nA = 3\n", "exports.A is given twice, in lines 4 and 6"),
    ],
)
def test_what_is_given_twice_is_named_with_both_lines(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_site(written(tmp_path, text))


@pytest.mark.parametrize("name", ["", "~nobody-of-this-name/site.toml"])
def test_a_site_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="site"):
        load_site(name)


def test_the_network_of_a_site_is_what_a_prediction_takes(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    levels = "".join(f"[network.{name}]\nlatency_seconds = 1e-6\nbytes_per_second = 1e10\n" for name in LEVELS)
    path.write_text(MINIMAL + levels)
    site = load_site(str(path))
    assert set(site.network) == set(LEVELS)
    assert read_network(path)[0] == Network(*(Level(1e-6, 1e10) for _ in LEVELS))
    path.write_text(MINIMAL + "network = 3\n")
    with pytest.raises(UsageError, match="network is 3: it must be a table"):
        load_site(str(path))


def test_a_site_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no site perlmuter; did you mean perlmutter\?"):
        load_site("perlmuter")
    with pytest.raises(UsageError, match="the sites are alps, "):
        load_site("zzz")
    with pytest.raises(UsageError, match="cannot read the site no/such.toml"):
        load_site("no/such.toml")


def test_an_installed_package_finds_what_pip_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcsgd.__file__", str(tmp_path / "lib" / "hpcsgd" / "__init__.py"))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "env") if name == "data" else "")
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    with pytest.raises(UsageError, match="is in none of"):
        slurm_directory()
    installed = tmp_path / "env" / "share" / "hpcsgd" / "slurm"
    installed.mkdir(parents=True)
    (installed / "job.sh.j2").touch()
    assert slurm_directory() == installed
