"""What an earlier name of the project, or of the spec, has left in the output: told, never removed."""

from collections.abc import Iterator
from pathlib import Path

from kiwari_ci.github.action_pins import PINS_RELATIVE_PATH
from kiwari_ci.loading import yaml_source
from kiwari_ci.output import generated_files
from kiwari_ci.problems import SpecError

PINS_PATH = f"specs/{PINS_RELATIVE_PATH}"


def find_stale_files(root: Path, generated: generated_files.GeneratedFiles, project: str, spec: Path) -> list[str]:
    """Paths below `root` that no spec makes: old copies of a spec or pins, files of projects that no spec names."""
    other_specs = {path: name for path, name in _read_output_specs(root) if path not in generated}
    stale = _find_stale_specs(root, other_specs, project, spec)
    living_projects = {project} | {name for path, name in other_specs.items() if path not in stale}
    is_old = PINS_PATH not in generated and (root / PINS_PATH).is_file() and len(stale) == len(other_specs)
    pins = [PINS_PATH] if is_old else []
    return (
        stale
        + pins
        + [
            path
            for path, name in generated_files.find_marked_files(root)
            if name not in living_projects and path not in generated
        ]
    )


def find_other_projects(root: Path, generated: generated_files.GeneratedFiles, project: str, spec: Path) -> set[str]:
    """The projects whose spec is in the output, beside ours: their files are not an earlier name's."""
    other_specs = {path: name for path, name in _read_output_specs(root) if path not in generated}
    stale = _find_stale_specs(root, other_specs, project, spec)
    return {name for path, name in other_specs.items() if path not in stale}


def _find_stale_specs(root: Path, other_specs: dict[str, str], project: str, spec: Path) -> list[str]:
    """The copies that no spec makes any more; where the output is elsewhere, another project's spec is there, too."""
    home = spec.resolve().parent.parent
    removed_paths = {path for path in other_specs if not (spec.parent / Path(path).name).exists()}
    is_home = root.resolve().is_relative_to(home)
    return [path for path, name in other_specs.items() if name == project or (is_home and path in removed_paths)]


def _read_output_specs(root: Path) -> Iterator[tuple[str, str]]:
    """The specs in the output, each with the name of its project; what is no spec is not ours."""
    for file in sorted(root.glob("specs/*.y*ml")):
        try:
            project = yaml_source.load_yaml(file).data["project"]["name"]
        except (SpecError, KeyError, TypeError):
            continue
        yield file.relative_to(root).as_posix(), str(project)
