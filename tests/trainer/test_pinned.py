"""A folder that is fetched holds one version."""

from pathlib import Path

from tunesmith_trainer.pinned import pin


def test_a_version_that_was_begun_goes_on(tmp_path: Path) -> None:
    """What the same version has brought stays, and the folder has nothing else."""
    folder = tmp_path / "model"
    pin(folder, "oci://host/bot", {"layers": [1]})
    (folder / "config.json").write_text("{}")
    pin(folder, "oci://host/bot", {"layers": [1]})
    assert [file.name for file in folder.iterdir()] == ["config.json"]


def test_another_version_finds_an_empty_folder(tmp_path: Path) -> None:
    """Whatever lies there is of another version, or of one that nobody noted."""
    folder = tmp_path / "model"
    for version in ("first", "second"):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "config.json").write_text("{}")
        pin(folder, "oci://host/bot", version)
        assert list(folder.iterdir()) == []


def test_a_version_that_comes_back_is_another_one(tmp_path: Path) -> None:
    """Only the version that was fetched last may go on."""
    folder = tmp_path / "model"
    for version in ("first", "second", "first"):
        pin(folder, version)
        assert list(folder.iterdir()) == []
        (folder / "config.json").write_text(version)
