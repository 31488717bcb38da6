"""Finds what an earlier name of the project or the spec left in the output; it is reported, and never removed."""

from pathlib import Path

from kiwari_ci.file_output import generated_files
from kiwari_ci.github_facts.action_pins import PINS_RELATIVE_PATH
from kiwari_ci.problems import SpecError
from kiwari_ci.spec_loading import yaml_source

PINS_PATH = f"specs/{PINS_RELATIVE_PATH}"


def find_leftover_files(root: Path, generated: generated_files.GeneratedFiles, project: str, spec: Path) -> list[str]:
    """Paths below `root` that no spec makes: old copies of a spec or pins, files of projects that no spec names."""
    other_specs = _find_other_specs(root, generated)
    leftover_paths = _find_leftover_specs(root, other_specs, project, spec)
    living_projects = {project} | {name for path, name in other_specs.items() if path not in leftover_paths}
    has_pins_copy = PINS_PATH not in generated and (root / PINS_PATH).is_file()
    if has_pins_copy and len(leftover_paths) == len(other_specs):
        leftover_paths = [*leftover_paths, PINS_PATH]
    for path, marker_project in generated_files.find_marked_files(root):
        if marker_project not in living_projects and path not in generated:
            leftover_paths.append(path)
    return leftover_paths


def find_other_projects(root: Path, generated: generated_files.GeneratedFiles, project: str, spec: Path) -> set[str]:
    """The projects besides ours whose spec is in the output, so that their files are not left from an older name."""
    other_specs = _find_other_specs(root, generated)
    leftover_paths = _find_leftover_specs(root, other_specs, project, spec)
    return {name for path, name in other_specs.items() if path not in leftover_paths}


def _find_other_specs(root: Path, generated: generated_files.GeneratedFiles) -> dict[str, str]:
    """The specs in the output that were not generated now, each with the name of its project."""
    projects: dict[str, str] = {}
    for file in sorted(root.glob("specs/*.y*ml")):
        path = file.relative_to(root).as_posix()
        if path not in generated and (project := _read_project_name(file)):
            projects[path] = project
    return projects


def _find_leftover_specs(root: Path, other_specs: dict[str, str], project: str, spec: Path) -> list[str]:
    """The copies whose spec is gone; where the output is elsewhere, another project's spec may be there, too."""
    repository = spec.resolve().parent.parent
    is_in_repository = root.resolve().is_relative_to(repository)
    leftover_paths: list[str] = []
    for path, name in other_specs.items():
        is_original_gone = not (spec.parent / Path(path).name).exists()
        if name == project or (is_in_repository and is_original_gone):
            leftover_paths.append(path)
    return leftover_paths


def _read_project_name(file: Path) -> str:
    """Read the name of the project of a spec; it is empty for a file that is no spec."""
    try:
        return str(yaml_source.load_yaml(file).data["project"]["name"])
    except (SpecError, KeyError, TypeError):
        return ""
