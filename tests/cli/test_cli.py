import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import sam4mllm
from sam4mllm import cli
from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import Sample, write_samples
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import read_image
from sam4mllm.prediction.record import read_predictions
from sam4mllm.segmenters.box import BoxSegmenter
from tests.images.test_files import png_with_size
from tests.running import without_summary

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
BY_HAND = ["--box", "10,10,50,30", "--segmenter", "box"]


@pytest.fixture
def run(command, monkeypatch, tmp_path):
    """The console entry, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return command


@pytest.fixture
def photo(tmp_path) -> Path:
    PIL.Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def replay(tmp_path) -> str:
    said = {"photo-cup": ["[200,300,600,900]"], "photo-dog": ["none"], "a-cup": ["[0,0,500,500]"]}
    lines = [json.dumps({"id": key, "replies": replies}) + "\n" for key, replies in said.items()]
    (tmp_path / "said.jsonl").write_text("".join(lines))
    return f"replay:{tmp_path / 'said.jsonl'}"


def kept(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_box_by_hand_leaves_three_files(run, photo):
    code, out, err = run("infer", photo, *BY_HAND, "--out", "out")
    assert (code, out, without_summary(err)) == (0, "", "")
    assert kept(Path("out")) == ["photo-by-hand.json", "photo-by-hand.mask.png", "photo-by-hand.overlay.png"]
    record = json.loads(Path("out/photo-by-hand.json").read_text())
    assert record["prompts"] == [{"box": [10.0, 10.0, 50.0, 30.0], "points": []}]
    assert (read_image(Path("out/photo-by-hand.mask.png"))[..., 0] == 255).sum() == 800


def test_json_alone_goes_to_standard_output(run, photo, monkeypatch):
    embed = BoxSegmenter.embed
    monkeypatch.setattr(
        BoxSegmenter, "embed", lambda self, image: sys.stdout.write("a library\n") and embed(self, image)
    )
    code, out, err = run("infer", photo, *BY_HAND, "--json")
    assert code == 0
    assert Rle.from_json(json.loads(out)["rle"]).area == 800
    assert without_summary(err) == "a library\n"
    assert kept(Path()) == ["photo.png"]


def test_several_answers_are_a_line_each_with_progress_on_standard_error(run, photo, replay):
    words = ["--mllm", replay, "--prompter", "box", "--segmenter", "box", "--json", "--out", "out"]
    code, out, err = run("infer", photo, "--phrase", "cup", "--phrase", "dog", *words)
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["photo-cup", "photo-dog"]
    assert "2/2" in err
    assert "".join(Path(f"out/photo-{name}.json").read_text() for name in ("cup", "dog")) == out


def test_pairs_come_from_a_file(run, photo, replay):
    Path("pairs.csv").write_text("image,phrase\nphoto.png,dog\nphoto.png,cup\n")
    code, out, _ = run("infer", "--pairs", "pairs.csv", "--mllm", replay, "--segmenter", "grabcut", "--json")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["photo-dog", "photo-cup"]


@pytest.fixture
def built(monkeypatch) -> list[PipelineConfig]:
    """The recipes that are about to be built; none is."""
    recipes: list[PipelineConfig] = []

    def build(recipe: PipelineConfig):
        recipes.append(recipe)
        raise UserError("not built")

    monkeypatch.setattr(PipelineConfig, "build", build)
    return recipes


def test_every_option_about_models_reaches_the_recipe(run, photo, built):
    adapter = photo.parent
    (adapter / "adapter_config.json").touch()
    words = ["--prompter", "pqpp", "--layout", "interior", "--points", 7, "--sure-yes", 0.8, "--sure-no", 0.7]
    words += ["--ask", "list", "--mllm", "a/b", "--adapter", adapter, "--dialect", "qwen2-vl", "--trust-remote-code"]
    words += ["--segmenter", "c/d", "--single-mask", "--device", "cpu", "--dtype", "float32"]
    assert run("infer", photo, "--phrase", "cup", "--json", *words)[2] == "error: not built\n"
    assert built == [
        PipelineConfig(
            segmenter="c/d",
            mllm="a/b",
            prompter="pqpp",
            options={"layout": "interior", "points": 7, "sure_yes": 0.8, "sure_no": 0.7, "ask": "list"},
            adapter=str(adapter),
            dialect="qwen2-vl",
            device="cpu",
            dtype="float32",
            single_mask=True,
            trust_remote_code=True,
        )
    ]


def test_points_of_ppg_reach_the_recipe(run, photo, built):
    run(
        "infer",
        photo,
        "--phrase",
        "cup",
        "--mllm",
        "a/b",
        "--prompter",
        "ppg",
        "--segmenter",
        "grabcut",
        "--json",
        "--positive",
        1,
        "--negative",
        0,
    )
    assert built[0].options == {"positive": 1, "negative": 0}


# what is given, and what the one line says
BAD = [
    pytest.param(["missing.png", *BY_HAND], "no such file: missing.png", id="missing file"),
    pytest.param(["text.jpg", *BY_HAND], "text.jpg is not an image", id="text named .jpg"),
    pytest.param(["short.png", *BY_HAND], "cannot read short.png", id="truncated PNG"),
    pytest.param(["short.jpg", *BY_HAND], "cannot read short.jpg", id="truncated JPEG"),
    pytest.param(["huge.png", *BY_HAND], "cannot read huge.png: it has", id="20000 x 20000"),
    pytest.param(["folder", *BY_HAND], "need exactly one image", id="box for a folder"),
    pytest.param(["folder", "--phrase", "cup"], "no images in folder", id="folder without pictures"),
    pytest.param(["photo.png", "--phrase", ""], "the phrase for photo.png is empty", id="empty phrase"),
    pytest.param(["photo.png", "short.png", "--phrase", "cup"], "cannot read short.png", id="the second is truncated"),
    pytest.param(["photo.png", "--phrase", "cup"], "no MLLM is set", id="no model"),
    pytest.param(["photo.png", "--phrase", "cup", "--mllm", "qwen"], "unknown MLLM 'qwen'", id="unknown model"),
    pytest.param(
        ["photo.png", *BY_HAND[:2], "--segmenter", "grabcat"], "did you mean grabcut?", id="unknown segmenter"
    ),
    pytest.param(["photo.png", *BY_HAND[:2]], "no segmenter is set", id="no segmenter"),
    pytest.param(["photo.png", *BY_HAND, "--mllm", "a/b"], "do not use an MLLM", id="box and model"),
    pytest.param(["photo.png", *BY_HAND, "--click", "20,20,+"], "takes no points", id="clicks for box"),
    pytest.param(
        ["photo.png", "--click", "20,20,+", "--segmenter", "grabcut"], "takes no points without a box", id="click alone"
    ),
    pytest.param(["photo.png", "--box", "1,2,3", "--segmenter", "box"], "--box must be x0,y0,x1,y1", id="box of three"),
    pytest.param(["--pairs", "missing.csv"], "cannot read missing.csv", id="missing pairs"),
    pytest.param([], "give images and a --phrase", id="nothing"),
]


@pytest.mark.parametrize(("words", "says"), BAD)
def test_a_mistake_is_one_line_and_exit_code_2_and_nothing_is_written(run, photo, words, says):
    Path("text.jpg").write_text("this is no picture at all")
    Path("short.png").write_bytes(photo.read_bytes()[:-200])
    PIL.Image.fromarray(PIXELS).save("short.jpg")
    Path("short.jpg").write_bytes(Path("short.jpg").read_bytes()[:-200])
    Path("huge.png").write_bytes(png_with_size(20_000, 20_000))
    Path("folder").mkdir()
    before = kept(Path())
    code, out, err = run("infer", *words, "--out", "out")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1
    assert kept(Path()) == before
    assert not Path("out").exists()


@pytest.mark.parametrize("out", ["photo.png", "photo.png/below", "/proc/none/of/this"])
def test_a_folder_that_cannot_be_written_is_one_line(run, photo, out):
    code, _, err = run("infer", photo, *BY_HAND, "--out", out)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: cannot write into {out}: ")
    assert kept(Path()) == ["photo.png"]


def test_a_full_disk_is_one_line_and_leaves_nothing(run, photo, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run("infer", photo, *BY_HAND, "--out", "out")
    assert code == 2
    assert err == "error: cannot write out/photo-by-hand.overlay.png: No space left on device\n"
    assert kept(Path()) == ["photo.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_standard_output_is_no_traceback(photo):
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "sam4mllm.cli", "infer", photo, *BY_HAND, "--json"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


def test_answers_need_a_place(run, photo):
    code, _, err = run("infer", photo, *BY_HAND)
    assert (code, err) == (2, "error: no output chosen: add --out FOLDER or --json\n")


@pytest.mark.parametrize("words", [["infer", "--nonsense"], ["infer", "--batch-size", "0"], ["nonsense"]])
def test_a_wrong_option_is_exit_code_2(run, words):
    assert run(*words)[0] == 2


def test_what_libraries_say_to_each_others_authors_is_not_shown(command, monkeypatch):
    def app(words, prog_name):
        warnings.warn("is deprecated", FutureWarning, stacklevel=1)
        raise SystemExit(0)

    monkeypatch.setattr(cli, "app", app)
    assert command() == (0, "", "")


def test_an_interrupt_is_130(run, photo, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(PipelineConfig, "build_segmenter", interrupted)
    assert run("infer", photo, *BY_HAND, "--out", "out")[0] == 130


def exif(orientation: int) -> PIL.Image.Exif:
    said = PIL.Image.Exif()
    said[0x0112] = orientation
    return said


RGB = PIL.Image.fromarray(PIXELS)
ODD = {  # name of the file: the picture, how it is saved, and its size (w, h) when read
    "dot.png": (RGB.crop((0, 0, 1, 1)), {}, (1, 1)),
    "turned.jpg": (RGB, {"exif": exif(6)}, (40, 60)),
    "grey.jpg": (RGB.convert("L"), {}, (60, 40)),
    "palette.png": (RGB.quantize(16), {"transparency": 0}, (60, 40)),
    "clear.png": (RGB.convert("RGBA"), {}, (60, 40)),
    "deep.png": (PIL.Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), {}, (60, 40)),
    "inks.jpg": (RGB.convert("CMYK"), {}, (60, 40)),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_picture_just_works(run, tmp_path, name):
    picture, how, (width, height) = ODD[name]
    picture.save(tmp_path / name, **how)
    stem = f"out/{Path(name).stem}-by-hand"
    words = ["infer", name, "--box", f"0,0,{width},{height}", "--segmenter", "grabcut", "--out", "out"]
    code, out, err = run(*words)
    assert (code, out, without_summary(err)) == (0, "", "")
    assert read_image(Path(f"{stem}.mask.png")).shape == (height, width, 3)
    record = json.loads(Path(f"{stem}.json").read_text())
    assert (record["width"], record["height"]) == (width, height)
    factor = max(1, -(-480 // max(width, height)))
    assert read_image(Path(f"{stem}.overlay.png")).shape == (height * factor, width * factor, 3)


@pytest.fixture
def samples(tmp_path, photo) -> Path:
    """Three samples: one whose box is right, one that is rightly denied, and one whose picture is missing."""
    mask = np.zeros((40, 60), bool)
    mask[12:36, 12:36] = True
    ground_truth, none = (Rle.from_mask(mask),), ()
    rows = [
        ("photo-cup", photo.name, ground_truth),
        ("photo-dog", photo.name, none),
        ("a-cup", "missing.png", ground_truth),
    ]
    write_samples([Sample(key, image, 60, 40, "cup", masks) for key, image, masks in rows], tmp_path / "set", tmp_path)
    return tmp_path / "set"


def test_samples_are_predicted_and_scored(run, samples, replay):
    words = ["--mllm", replay, "--prompter", "box", "--segmenter", "box", "--out", "new/p.jsonl"]
    code, out, err = run("predict", samples, *words)
    assert (code, out) == (0, "")
    assert "3/3" in err
    assert [found.error is None for found in read_predictions(Path("new/p.jsonl"))] == [True, True, False]

    code, out, _ = run("score", samples, "new/p.jsonl", "--profile", "rela", "--json")
    assert code == 0
    assert json.loads(out)["n"] == 3
    assert json.loads(out)["metrics"]["gIoU"] == pytest.approx((1 + 1 + 0) / 3)
    code, out, _ = run("score", samples, "new/p.jsonl", "--profile", "rela")
    assert code == 0
    assert out.splitlines()[2].startswith("| set | 3 |")


def test_scores_come_with_intervals_strata_and_a_signature(run, samples, replay):
    words = ["--mllm", replay, "--prompter", "box", "--segmenter", "box", "--out", "p.jsonl"]
    assert run("predict", samples, *words)[0] == 0
    words = ["score", samples, "p.jsonl", "--profile", "rela", "--by", "size", "--by", "targets", "--draws", 50]
    code, out, err = run(*words, "--seed", 3, "--against", "p.jsonl")
    assert (code, without_summary(err)) == (0, "")
    assert "| 95% interval |" in out
    assert "| size | n |" in out
    assert "| targets | n |" in out
    assert "| gIoU | +0.00 | +0.00 to +0.00 |" in out
    assert out.splitlines()[-1].startswith("signature: profile:rela|n:3|samples:")
    assert "bootstrap:50,seed 3" in out
    found = json.loads(run(*words, "--json")[1])
    assert found["signature"]["bootstrap"] == {"draws": 50, "seed": 0}
    strata = found["strata"]["targets"]
    assert [part["n"] for part in strata.values()] == [1, 2]
    for label, part in strata.items():
        signature = part["signature"]["text"].replace("seed 0", "seed 3")
        assert f"- {label}: `{signature}`" in out.splitlines()
    assert found["warnings"] == []


@pytest.mark.parametrize(("profile", "says"), [("gsva", "rela is the reference"), ("bool-ignore", "lisa is")])
def test_a_profile_that_differs_from_its_protocol_warns(run, samples, replay, profile, says):
    assert run("predict", samples, "--mllm", replay, "--segmenter", "grabcut", "--out", "p.jsonl")[0] == 0
    code, out, err = run("score", samples, "p.jsonl", "--profile", profile)
    assert code == 0
    assert err.startswith(f"warning: {profile} ")
    assert says in err
    assert f"profile:{profile}|" in out
    [warning] = json.loads(run("score", samples, "p.jsonl", "--profile", profile, "--json")[1])["warnings"]
    assert without_summary(err) == f"warning: {warning}\n"


def test_an_oracle_is_predicted_by_its_name_and_never_passes_for_a_model(run, samples):
    words = ["predict", samples, "--prompter", "oracle", "--segmenter", "grabcut", "--positive", 1, "--seed", 2]
    assert run(*words, "--out", "p.jsonl")[0] == 0
    first, none, _ = read_predictions(Path("p.jsonl"))
    assert sum(point.positive for point in first.prompts[0].points) == 1
    assert (none.prompts, none.oracle) == ((), True)
    assert json.loads(Path("p.settings.json").read_text())["prompter"] == "oracle"
    code, out, err = run("score", samples, "p.jsonl", "--profile", "rela")
    assert code == 0
    assert "| set (oracle, no model) |" in out
    assert "warning: 2 of 3 predictions come from an oracle" in err
    peer = [{"id": one.id, "segmentation": one.mask.to_json()} for one in read_predictions(Path("p.jsonl"))]
    Path("peer.json").write_text(json.dumps(peer))
    code, out, err = run("score", samples, "peer.json", "--profile", "rela", "--against", "p.jsonl")
    assert (code, "oracle" in out) == (0, False)
    assert "warning: p.jsonl: 2 of 3 predictions come from an oracle" in err


def test_without_samples_there_is_no_oracle(run, photo):
    words = ["infer", photo, "--phrase", "cup", "--prompter", "oracle", "--segmenter", "grabcut", "--json"]
    assert run(*words)[::2] == (
        2,
        "error: --prompter oracle needs samples with ground truth: use it with predict, not with infer\n",
    )


def test_predicting_again_ends_in_the_same_bytes_and_other_settings_are_refused(run, samples, replay):
    words = ["predict", samples, "--mllm", replay, "--segmenter", "grabcut", "--out", "p.jsonl"]
    assert run(*words, "--prompter", "box")[0] == 0
    first = Path("p.jsonl").read_bytes()
    assert run(*words, "--prompter", "box")[0] == 0
    assert Path("p.jsonl").read_bytes() == first
    code, _, err = run(*words, "--prompter", "ppg")
    assert code == 2
    assert "was started with " in err
    assert Path("p.jsonl").read_bytes() == first


def test_pictures_that_were_moved_are_found(run, samples, replay, photo):
    Path("moved").mkdir()
    photo.rename("moved/photo.png")
    words = ["--mllm", replay, "--segmenter", "grabcut", "--out", "p.jsonl", "--images", "moved"]
    code, _, err = run("predict", samples, *words)
    assert code == 0
    assert (
        "1 of 3 samples failed: they count as empty masks until --retry-failed predicts them again; the first:" in err
    )
    assert [found.error is None for found in read_predictions(Path("p.jsonl"))] == [True, True, False]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "missing", "--out", "p.jsonl"], "missing"),
        (["predict", "set", "--out", "p.jsonl"], "no MLLM is set"),
        (["predict", "set", "--mllm", "a/b", "--segmenter", "grabcat", "--out", "p.jsonl"], "unknown segmenter"),
        (
            ["predict", "set", "--mllm", "a/b", "--segmenter", "grabcut", "--out", "photo.png/p.jsonl"],
            "cannot write into",
        ),
        (["predict", "set", "--mllm", "a/b", "--segmenter", "grabcut", "--out", "set"], "set"),
        (["score", "set", "missing.jsonl", "--profile", "lavt"], "cannot read missing.jsonl"),
        (["score", "missing", "said.jsonl", "--profile", "lavt"], "missing"),
        (["score", "set", "none.jsonl", "--profile", "lavt"], "3 samples have no prediction"),
        (["score", "set", "none.jsonl", "--profile", "coco"], "choose one of lavt"),
        (["score", "set", "none.jsonl", "--profile", "lavt", "--by", "colour"], "choose from size"),
        (["predict", "set", "--mllm", "a/b", "--prompter", "oracle", "--out", "p"], "oracle does not use an MLLM"),
        (
            ["predict", "set", "--prompter", "oracle", "--points", 9, "--segmenter", "box", "--out", "p"],
            "takes positive",
        ),
    ],
)
def test_a_mistake_about_samples_is_one_line_before_a_model_is_loaded(run, samples, replay, monkeypatch, words, says):
    monkeypatch.setattr(PipelineConfig, "build", lambda self: pytest.fail("loaded"))
    Path("none.jsonl").touch()
    before = kept(Path())
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert says in err
    assert kept(Path()) == before


def test_help_is_there_in_half_a_second():
    """Of processor time: the wall's clock would also count whatever else the machine is at."""
    seconds = []
    for _ in range(3):
        before = os.times()
        words = [sys.executable, "-m", "sam4mllm.cli", "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
        assert "infer" in done.stdout
    assert 0 < min(seconds) < 0.5


def test_the_version_is_the_packages(run):
    assert run("--version") == (0, f"sam4mllm {sam4mllm.__version__}\n", "")


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "sam4mllm", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"sam4mllm {sam4mllm.__version__}\n"
