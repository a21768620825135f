"""`make chaos`: kill every stage, `make export` and `make evidence` at random moments, then compare the outputs with
those of a run that nobody disturbed: PYTHONPATH=tests python -m chaos N SEED. The figures go to docs/reliability.md."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from projects import ENVIRONMENT, ROOT, as_clone, make, make_project, run

from benchmarks.readme import replace_generated
from pipeline.common.files import sha256_of
from pipeline.common.processor import machine
from pipeline.data.synthetic import write_archive

STAGES = ("download", "prepare", "validate", "train", "evaluate", "export")
VARYING = "reports/metrics/train_timing.json"  # contains times
TIMED = ("manifest.json", "README.md", "SHA256SUMS")  # files of a bundle that contain measured latencies
PAGE, BEGIN = ROOT / "docs/reliability.md", "<!-- results: written by `make chaos` -->"


def hashes(folder, *tops):
    """SHA-256 of every file below these folders of a project."""
    files = [path for top in tops for path in (folder / top).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


def outputs(folder):
    """SHA-256 of every output but the one that differs from run to run."""
    found = hashes(folder, "data", "models", "reports")
    return {name: sha256 for name, sha256 in found.items() if name != VARYING}


def bundles(folder):
    """SHA-256 of every file in dist/; of files with measured latencies only the name."""
    return {name: "" if name.endswith(TIMED) else sha256 for name, sha256 in hashes(folder, "dist").items()}


def stage_command(stage):
    return [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage]


def run_timed(folder):
    """Run `make repro`; what it printed, and the seconds of each stage."""
    command = ["make", "--old-file=.venv/installed", "repro"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, **pipes)
    started, log = {}, ""
    for line in process.stdout:
        log += line
        if found := re.match(r"> python -m pipeline\.(\w+)", line):
            started[found[1]] = time.monotonic()
    assert process.wait() == 0, log
    ends = [*list(started.values())[1:], time.monotonic()]
    return log, {stage: end - start for (stage, start), end in zip(started.items(), ends, strict=True)}


def kill_during(folder, command, seconds, marker=""):
    """Start a command, and kill it with all its processes `seconds` after it printed a line with `marker`.

    Returns:
        Whether it was still running.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, start_new_session=True, **pipes)
    while marker and marker not in process.stdout.readline():
        assert process.poll() is None
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return process.returncode == -signal.SIGKILL


class Project:
    """A finished pipeline on generated images, and a copy from which every round starts."""

    def __init__(self, folder):
        archive = folder / "generated.tar.gz"
        write_archive(archive, images_per_batch=100, seed=1)
        self.folder, self.copy = folder / "project", folder / "copy"
        make_project(self.folder, archive)
        as_clone(self.folder)
        self.seconds = run_timed(self.folder)[1]
        shutil.copytree(self.folder, self.copy, symlinks=True)

    def restore(self):
        """Take the folder back to the finished pipeline, under the same path."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder, symlinks=True)

    def undisturbed(self, target, compared):
        """The files that `make TARGET` writes, as `compared` reads them; its seconds are kept."""
        self.restore()
        start = time.monotonic()
        done = make(self.folder, target)
        assert done.returncode == 0, done.stdout + done.stderr
        self.seconds[f"make {target}"] = time.monotonic() - start
        return compared(self.folder)

    def stage(self, stage, after):
        """Kill a stage and run it again; whether it was killed, and what is wrong then."""
        if stage == "download":
            (self.folder / "data/raw/cifar-10-python.tar.gz").unlink()  # a file that exists would be kept
        killed = kill_during(self.folder, stage_command(stage), after, f"python -m pipeline.{stage}")
        run(self.folder, "pipeline.recover")
        return killed, run(self.folder, *stage_command(stage)[2:])

    def target(self, target, after):
        """The same of a make target."""
        killed = kill_during(self.folder, ["make", "--old-file=.venv/installed", target], after)
        return killed, make(self.folder, target)


def problem(project, done, expected, compared):
    """What is wrong after the second run, or an empty text."""
    if done.returncode:
        return f"exit code {done.returncode}: {(done.stdout + done.stderr)[-500:]}"
    found = compared(project.folder)
    if different := sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)):
        return f"other content: {', '.join(different)}"
    if partial := [str(path) for path in project.folder.rglob(".partial*")]:
        return f"partial files: {', '.join(partial)}"
    return ""


def rounds(project, count, seed):
    """A row for each kill: what was killed, after which share of its time, whether it still ran, what was wrong."""
    draw = random.Random(seed)
    default = outputs(project.folder)
    jobs = [(stage, project.stage, stage, default, outputs) for stage in STAGES]
    for target, compared in (("export", bundles), ("evidence", outputs)):
        expected = project.undisturbed(target, compared)
        jobs.append((f"make {target}", project.target, target, expected, compared))
    for name, start, argument, expected, compared in jobs:
        for _ in range(count):
            project.restore()
            after = draw.uniform(0, project.seconds[name])
            killed, done = start(argument, after)
            row = (name, project.seconds[name], after, killed, problem(project, done, expected, compared))
            print(f"chaos: {name} after {after:.1f} of {row[1]:.1f} s: {row[-1] or 'the same outputs'}", flush=True)
            yield row


def table(rows):
    """A Markdown table with one line for each thing that was killed."""
    lines = [
        "| killed | rounds | its seconds | killed after seconds | same outputs afterwards |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == name]
        moments = ", ".join(f"{after:.1f}" if killed else f"{after:.1f} (had ended)" for _, _, after, killed, _ in own)
        good = sum(not wrong for *_, wrong in own)
        code = f"`{name}`" if name.startswith("make") else name
        lines.append(f"| {code} | {len(own)} | {own[0][1]:.1f} | {moments} | {good} of {len(own)} |")
    return "\n".join(lines)


def chaos(count, seed):
    """Write the figures of all rounds; exit code 1 if one of them ended with other outputs."""
    with tempfile.TemporaryDirectory() as folder:
        rows = list(rounds(Project(Path(folder)), count, seed))
    kills = sum(killed for *_, killed, _ in rows)
    text = f"{kills} kills in {len(rows)} rounds, seed {seed}, 600 generated images, {machine()}:\n\n{table(rows)}"
    replace_generated(PAGE, text, BEGIN)
    print(text)
    sys.exit(any(wrong for *_, wrong in rows))


if __name__ == "__main__":
    chaos(*map(int, sys.argv[1:]))
