"""Decides which container reads an env file that a deploy of today writes: a name such as `.env` is in many folders."""

from collections.abc import Iterator

from kiwari_ci.commands.init.environments import DetectedEnvironment
from kiwari_ci.commands.init.rendered_env import WrittenEnv, find_folder_in_repository
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, is_within_folder, join_path

STACK_ENV_FILE = ".env"  # which Compose reads by itself, beside its file


class EnvFileReaders:
    """Finds the services that read a written env file, by the folders of the repository and of the server."""

    def __init__(self, repository: LocalRepository, environments: list[DetectedEnvironment]) -> None:
        self.repository_folders = repository.folders
        self.server_folders = {str(folder.value) for environment in environments for folder in environment.folders}

    def is_read_by(self, service: DetectedService, written: WrittenEnv) -> bool:
        """Whether a container of a service has the file as env file; without a container, whether it may be so."""
        folder = self._find_folder(written)
        if not service.containers:
            return not folder or is_within_folder(service.language.home, folder)
        return any(self._is_env_file(path, parent, written) for path, parent in _list_env_files(service))

    def is_file_of_stack(self, service: DetectedService, written: WrittenEnv) -> bool:
        """Whether Compose fills the variables of the file into a service's Compose file.

        It reads `.env` beside that file by itself, and each other file that the commands of a deploy name.
        """
        if written.is_named:
            return bool(service.containers)
        folder = self._find_folder(written)
        compose_folders = {get_parent_folder(file.path) for file, _ in service.containers}
        is_beside = not folder or folder in compose_folders
        return is_beside and written.file == STACK_ENV_FILE

    def _is_env_file(self, path: str, compose_folder: str, written: WrittenEnv) -> bool:
        if path.rpartition("/")[2] != written.file:
            return False
        folder = self._find_folder(written)
        if not folder:
            # Nothing shows the folder: a file called `.env` is that beside the Compose file, and other names tell it.
            return written.file != STACK_ENV_FILE or get_parent_folder(path) == compose_folder
        return path in (join_path(folder, written.file), join_path(compose_folder, f"{folder}/{written.file}"))

    def _find_folder(self, written: WrittenEnv) -> str:
        """The folder of a file, in the repository or below that of the stack; empty for the stack's own, or unknown."""
        parent = written.path.rpartition("/")[0]
        for server_folder in self.server_folders:
            if parent.startswith(f"{server_folder}/"):
                return parent.removeprefix(f"{server_folder}/")
        folder = find_folder_in_repository(written, self.repository_folders)
        return "" if folder == "." else folder


def _list_env_files(service: DetectedService) -> Iterator[tuple[str, str]]:
    """The env files of a service's containers, each with the folder of its Compose file."""
    for file, container in [*service.containers, *service.other_containers]:
        for env_file in container.env_files:
            yield str(env_file.value), get_parent_folder(file.path)


def _is_written_before_build(service: DetectedService, written: WrittenEnv) -> bool:
    """Whether a step that the draft has before the build of a service writes the file."""
    for preparation in service.preparations:
        if preparation.folder == written.folder and written.file in str(preparation.fields.get("run", "")):
            return True
    return False


def set_other_env_files_apart(
    readers: EnvFileReaders, services: list[DetectedService], environments: list[DetectedEnvironment]
) -> list[str]:
    """Take from environments the env files that no container reads, and say in words where deploys write them."""
    others: dict[str, str] = {}

    def is_of_stack(written: WrittenEnv) -> bool:
        for service in services:
            if readers.is_read_by(service, written) or readers.is_file_of_stack(service, written):
                return True
        if not any(_is_written_before_build(service, written) for service in services):
            others.setdefault(written.path, written.where)
        return False

    for environment in environments:
        environment.rendered_env = list(filter(is_of_stack, environment.rendered_env))
        environment.whole_env_files = list(filter(is_of_stack, environment.whole_env_files))
        environment.unread_env_lines = list(filter(is_of_stack, environment.unread_env_lines))
    return [
        f"{where}: writes {path}, which is the env file of no container; if a build reads it, write the step under "
        "`steps.before_build`"
        for path, where in others.items()
    ]
