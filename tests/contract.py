"""What the host program relies on in Docker and Compose: scripts that run on a real engine and on its stand-in.

A script runs commands as the host program does, and writes down what the program would read of their outcome. An
engine has written what each script has to say into tests/data/contract; the stand-in has to say the same.
"""

import abc
import base64
import dataclasses
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program

EXPECTED = Path(__file__).parent / "data/contract"
STACK = "contract"
NETWORK = "proxy"  # a server has it before its first stack

WEB = """
  web:
    image: {one}
    container_name: web
    restart: unless-stopped
    networks:
      proxy:
        aliases:
          - shop
"""
WORKER = """
  worker:
    image: {one}
    container_name: worker
    depends_on:
      - web
    networks:
      - proxy
"""
NETWORKS = """
networks:
  proxy:
    external: true
"""


@dataclasses.dataclass
class Bench(abc.ABC):
    """A server on which a script runs, and what the script has seen."""

    machine: deploy_program.Machine
    folder: Path
    images: dict[str, str]  # by digest: "one", "two", "labelled", and "exits", which ends by itself with 3
    token: str  # of the registry, which knows no other image: "unknown" is only a name
    lines: list[str] = dataclasses.field(default_factory=list)
    letters: dict[str, str] = dataclasses.field(default_factory=dict)  # for each container id, in order of sight
    volumes: dict[str, str] = dataclasses.field(default_factory=dict)  # a number for each that has no name
    lives: dict[str, deploy_program.Container] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.stack = deploy_program.Stack(self.machine, self.folder)
        self.others = {container.id for container in self.stack.containers()}

    # What an engine and its stand-in do in different ways

    @abc.abstractmethod
    def run_by_hand(self, name: str, is_removed_when_stopped: bool = False) -> None:
        """Start a container of the image "one" as a person does with `docker run`, perhaps with `--rm`."""

    @abc.abstractmethod
    def command_that_ends(self, code: int) -> list[str]:
        """The words behind the service in `docker compose run`, of a command that ends with that code."""

    @abc.abstractmethod
    def reached_by(self, name: str) -> list[str]:
        """The names of the containers to which a name leads on the network."""

    # Steps

    def write(self, *services: str, rest: str = "") -> None:
        """Write the compose file."""
        text = f"name: {STACK}\n\nservices:{''.join(services)}{NETWORKS}{rest}"
        for name, reference in self.images.items():
            text = text.replace(f"{{{name}}}", reference)
        (self.folder / deploy_program.COMPOSE_FILE).write_text(text)

    def pin(self, service: str, image: str) -> Path:
        """An override file that gives a service another image."""
        path = self.folder / deploy_program.PINS_FILE
        path.write_text(f'{deploy_program.PINS_HEAD}  {service}: {{image: "{self.images[image]}"}}\n')
        return path

    def docker(self, *words: str) -> deploy_program.Output:
        """Run a command of Docker's."""
        self.say(f"$ docker {shlex.join(words)}")
        return self.ended(self.machine.docker(*words))

    def compose(self, *words: str, pins: Path | None = None) -> deploy_program.Output:
        """Run a command of Compose's on the compose file."""
        self.say(f"$ docker compose {shlex.join(words)}" + (" # with the pins" if pins else ""))
        return self.ended(self.stack.compose(*words, pins=pins))

    def ended(self, output: deploy_program.Output) -> deploy_program.Output:
        """Write down how a command ended, in the kinds that the host program tells apart."""
        words = output.err.lower()
        if output.code == 0:
            self.say("done")
        elif "no such container" in words:
            self.say("failed: no such container")
        elif "no such" in words:
            self.say("failed: no such thing")
        else:
            self.say("failed")
        return output

    def say(self, text: str) -> None:
        """Write a line down, with a name in place of what is different on each server."""
        for name, reference in self.images.items():
            text = text.replace(reference, f"IMAGE-{name.upper()}")
        text = text.replace(str(self.folder), "FOLDER")
        self.lines.append(re.sub("[0-9a-f]{12}_", "ID_", text))

    def pull(self, name: str, token: str) -> None:
        """Pull an image with a token, or without one, and write down what the host program makes of the answer."""
        image = self.images[name]
        account = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        accounts = {deploy_program.registry_key(image): {"auth": account}} if token else {}
        (self.folder / "config.json").write_text(json.dumps({"auths": accounts}))
        output = self.machine.docker("--config", str(self.folder), "pull", "-q", image)
        self.say(f"$ docker pull {image}{'' if token else ' # without a token'}")
        if output.code == 0:
            self.say("done")
            return
        try:
            deploy_program.refuse_if_final(image, output)
            self.say("failed for a reason that may pass")
        except deploy_program.Failed as failure:
            reasons = {
                deploy_program.BAD_IMAGE: "the image is missing",
                deploy_program.TOKEN_REFUSED: "the token is refused",
            }
            self.say(f"failed: {reasons[failure.code]}")

    def wait_until_ended(self, name: str) -> None:
        """Wait until a container has ended by itself."""
        for _ in range(100):
            if not self.stack.get(name).has_processes:
                return
            self.machine.wait(0.2)
        raise AssertionError(f"{name} does not end")

    def wait_until_restarting(self, name: str) -> None:
        """Wait until Docker is about to start a container again; it waits longer each time, now a second or so."""
        for _ in range(300):
            container = self.stack.get(name)
            if container.status == "restarting" and container.restarts > 3:
                return
            self.machine.wait(0.05)
        raise AssertionError(f"{name} is not started again")

    # Looks

    def look(self) -> None:
        """Write down all that the host program reads of each container, the newest first."""
        seen = [container for container in self.stack.containers() if container.id not in self.others]
        if not seen:
            self.say("  no container")
        for container in seen:
            self.say(f"  {container.name}: {', '.join(self.facts(container))}")

    def facts(self, container: deploy_program.Container) -> list[str]:
        """A container in words."""
        before = self.lives.get(container.id)
        letter = self.letters.setdefault(container.id, chr(ord("A") + len(self.letters)))
        self.lives[container.id] = container
        life = "" if not before else " as before" if container.is_same_run(before) else " in another life"
        facts = [f"container {letter}{life}", container.status, container.image]
        facts.append(f"restart {container.restart_policy or 'no'}")
        if container.project:
            one_off = "one-off of " if container.is_one_off else ""
            facts.append(f"{one_off}{container.service} of {container.project}")
        for name, settings in sorted(container.networks.items()):
            aliases = settings.get("Aliases") or []
            names = [alias for alias in ("web", "worker", "shop", "other") if alias in aliases]
            has_address = "with" if settings.get("IPAddress") else "without"
            facts.append(f"on {name} {has_address} an address as {'+'.join(names) or 'nobody'}")
        for mount in sorted(container.mounts, key=lambda mount: str(mount["Destination"])):
            facts.append(self.mount_in_words(mount))
        facts += [f"port {port.number}/{port.protocol}" for port in container.ports]
        return facts

    def mount_in_words(self, mount: deploy_program.Json) -> str:
        """A mount, with a letter in place of the name of a volume that has none."""
        source = str(mount.get("Name") or mount.get("Source"))
        if deploy_program.is_anonymous_volume(mount):
            source = self.volumes.setdefault(source, f"without a name, number {len(self.volumes) + 1},")
        return f"{mount['Type']} {source} at {mount['Destination']}{'' if mount.get('RW', True) else ' read-only'}"

    def look_names_up(self, *names: str) -> None:
        """Write down to which containers names lead."""
        for name in names:
            self.say(f"  {name} leads to {' and '.join(sorted(self.reached_by(name))) or 'nobody'}")

    def compare_hashes(self, service: str) -> None:
        """Write down whether Compose would say that a container has the settings of the compose file."""
        self.stack.read_compose_file()
        container = self.stack.get(service)
        label = container.labels.get("com.docker.compose.config-hash")
        is_same = label in self.stack.hashes(self.stack.services[service], container)
        self.say(f"  {service} has {'the settings' if is_same else 'other settings than those'} of the compose file")


UP = ("up", "-d", "--no-deps", "--pull", "never")


def life_of_a_container(bench: Bench) -> None:
    """It is made, stopped, started, renamed and removed."""
    bench.write(WEB)
    bench.compose(*UP, "web")
    bench.look()
    bench.docker("stop", "web")
    bench.look()
    bench.docker("stop", "web")
    bench.docker("start", "web")
    bench.look()
    bench.docker("start", "web")
    bench.look()
    bench.docker("rename", "web", "web-previous")
    bench.look()
    bench.look_names_up("web", "web-previous")
    bench.docker("rm", "-f", "-v", "web-previous")
    bench.look()


def end_of_a_container(bench: Bench) -> None:
    """It ends by itself, with an exit code and without a restart."""
    bench.write(WEB.replace("{one}", "{exits}").replace("unless-stopped", '"no"'))
    bench.compose(*UP, "web")
    bench.wait_until_ended("web")
    bench.look()
    bench.say(f"  exit code {bench.stack.get('web').exit_code}")
    bench.docker("stop", "web")
    bench.look()


def restart_policies(bench: Bench) -> None:
    """They are changed while it runs and while it does not; a stop is not undone by a policy."""
    bench.write(WEB)
    bench.compose(*UP, "web")
    bench.docker("update", "--restart", "no", "web")
    bench.look()
    bench.docker("stop", "web")
    bench.docker("update", "--restart", "always", "web")
    bench.look()
    bench.docker("start", "web")
    bench.look()
    bench.docker("update", "--restart", "unless-stopped", "web")
    bench.look()
    bench.compose(*UP, "web")
    bench.look()


def next_start(bench: Bench) -> None:
    """One that waits for its next start never has it after a stop, and gets other names on its network then."""
    bench.write(WEB.replace("{one}", "{exits}"))
    bench.compose(*UP, "web")
    bench.wait_until_restarting("web")
    bench.docker("update", "--restart", "no", "web")
    bench.docker("stop", "web")
    bench.look()
    bench.docker("network", "disconnect", NETWORK, "web")
    bench.docker("network", "connect", "--alias", "other", NETWORK, "web")
    bench.machine.wait(1)
    bench.look()


def what_is_not_there(bench: Bench) -> None:
    """Each command says that it is not there, in words that the host program knows."""
    bench.look()
    bench.docker("inspect", "--type", "container", "web")
    bench.docker("stop", "web")
    bench.docker("start", "web")
    bench.docker("rename", "web", "other")
    bench.docker("update", "--restart", "no", "web")
    bench.docker("logs", "--tail", "40", "web")
    bench.docker("rm", "-f", "-v", "web")
    bench.docker("network", "inspect", "no-network")
    bench.docker("network", "disconnect", NETWORK, "web")
    bench.docker("network", "connect", "--alias", "web", NETWORK, "web")
    bench.docker("volume", "inspect", "no-volume")
    bench.docker("image", "inspect", bench.images["unknown"])
    bench.run_by_hand("web")
    bench.docker("network", "connect", "no-network", "web")
    output = bench.docker("inspect", "--type", "container", "web", "worker")
    bench.say(f"  and printed: {[entry['Name'] for entry in json.loads(output.out)]}")
    bench.look()


def names_that_are_taken(bench: Bench) -> None:
    """A name that a person's container has is refused, and nothing half-made stays."""
    bench.write(WEB, WORKER)
    bench.run_by_hand("web")
    bench.compose(*UP, "web")
    bench.look()
    bench.compose("run", "-d", "-T", "--no-deps", "--name", "web", "worker")
    bench.look()
    bench.compose(*UP, "worker")
    bench.docker("rename", "worker", "web")
    bench.docker("rename", "worker", "worker")
    bench.look()


def beginning_of_an_id(bench: Bench) -> None:
    """Docker takes it for a name, which the host program does not."""
    bench.write(WEB)
    bench.compose(*UP, "web")
    short = bench.stack.get("web").id[:12]
    output = bench.machine.docker("inspect", "--type", "container", short)
    bench.say(f"  by its id: {[entry['Name'] for entry in json.loads(output.out)]}")
    bench.say(f"  found: {bench.stack.find(short)}")


def names_on_a_network(bench: Bench) -> None:
    """A container leaves a network and joins it again with other names, while it runs and while it does not."""
    bench.write(WEB)
    bench.compose("run", "-d", "-T", *deploy_program.NOT_FOR_TRAEFIK, "--no-deps", "--name", "web-next", "web")
    bench.look()
    bench.look_names_up("web", "shop", "web-next")
    bench.docker("network", "connect", "--alias", "web", NETWORK, "web-next")
    bench.docker("network", "disconnect", NETWORK, "web-next")
    bench.look()
    bench.look_names_up("web-next")
    bench.docker("network", "disconnect", NETWORK, "web-next")
    bench.docker("network", "connect", "--alias", "web", "--alias", "shop", NETWORK, "web-next")
    bench.look()
    bench.look_names_up("web", "shop", "web-next")
    bench.compose(*UP, "web")
    bench.look_names_up("web", "shop")
    bench.docker("stop", "web-next")
    bench.look()
    bench.look_names_up("web", "shop", "web-next")
    bench.docker("network", "disconnect", NETWORK, "web-next")
    bench.docker("network", "connect", "--alias", "other", NETWORK, "web-next")
    bench.look()
    bench.docker("start", "web-next")
    bench.look()
    bench.look_names_up("web", "other")


def up_recreates(bench: Bench) -> None:
    """Compose makes a container anew when its settings or its image are others, or by force."""
    bench.write(WEB)
    bench.compose(*UP, "web")
    bench.look()
    bench.compare_hashes("web")
    bench.compose(*UP, "web")
    bench.look()
    bench.write(WEB.replace("    restart:", '    labels:\n      a: "b"\n    restart:'))
    bench.compare_hashes("web")
    bench.compose("up", "-d", "--no-deps", "--no-recreate", "web")
    bench.look()
    bench.compose(*UP, "web")
    bench.look()
    bench.compare_hashes("web")
    pins = bench.pin("web", "two")
    bench.compose(*UP, "web", pins=pins)
    bench.look()
    bench.compose("up", "-d", "--no-deps", "--force-recreate", "--pull", "never", "web", pins=pins)
    bench.look()
    bench.docker("stop", "web")
    bench.compose(*UP, "web", pins=pins)
    bench.look()
    bench.docker("stop", "web")
    bench.compose(*UP, "web")
    bench.look()


def up_and_dependencies(bench: Bench) -> None:
    """With --no-deps a service starts alone, and keeps the checksum of its settings."""
    bench.write(WEB, WORKER)
    bench.compose(*UP, "worker")
    bench.look()
    bench.compare_hashes("worker")
    bench.compose(*UP, "web")
    bench.compose(*UP, "worker")
    bench.look()


def up_and_renamed_containers(bench: Bench) -> None:
    """Compose knows its containers by their labels, whatever their names are."""
    bench.write(WEB)
    bench.compose(*UP, "web")
    bench.docker("rename", "web", "web-previous")
    bench.compose(*UP, "web")
    bench.look()
    bench.compose("up", "-d", "--no-deps", "--force-recreate", "--pull", "never", "web")
    bench.look()
    bench.docker("rename", "web", "web-previous")
    bench.run_by_hand("web")
    bench.compose("up", "-d", "--no-deps", "--force-recreate", "--pull", "never", "web")
    bench.look()


def up_and_one_off_containers(bench: Bench) -> None:
    """Compose does not take a container of `docker compose run` for the service's."""
    bench.write(WEB)
    bench.compose("run", "-d", "-T", *deploy_program.NOT_FOR_TRAEFIK, "--no-deps", "--name", "web-next", "web")
    bench.look()
    label = bench.stack.get("web-next").labels.get("traefik.enable")
    bench.say(f"  traefik.enable is {label}")
    bench.compose(*UP, "web")
    bench.look()
    bench.compose("up", "-d", "--no-deps", "--force-recreate", "--pull", "never", "web")
    bench.look()


def commands_that_end(bench: Bench) -> None:
    """A migration's exit code comes through, and its container is gone."""
    bench.write(WEB)
    for code in (0, 3):
        words = ("run", "--rm", "-T", *deploy_program.NOT_FOR_TRAEFIK, "--no-deps", "--name", "web-next-migrate", "web")
        output = bench.stack.compose(*words, *bench.command_that_ends(code))
        bench.say(f"  ended with {output.code}")
        bench.look()


def one_more_container(bench: Bench) -> None:
    """Compose makes one more of a service without a fixed name, and takes the surplus away with `up`."""
    bench.write(WEB)
    bench.compose(*UP, "web")
    bench.docker("rename", "web", "web-previous")
    bench.docker("stop", "web-previous")
    bench.stack.read_compose_file()
    service = bench.stack.services["web"]
    model = bench.stack.successor_model(service, bench.stack.get("web-previous"))
    words = ("create", "--no-recreate", "--pull", "never", "--scale", "web=2", "web")
    bench.say(f"$ docker compose {shlex.join(words)} # without container_name")
    bench.ended(bench.stack.compose_text(json.dumps(model), *words))
    bench.look()
    bench.docker("rename", "contract-web-2", "web")
    bench.docker("start", "web")
    bench.look()
    bench.look_names_up("web", "shop")
    bench.compare_hashes("web")
    bench.docker("rm", "-f", "-v", "web-previous")
    bench.look()
    bench.compose(*UP, "web")
    bench.look()


def volumes(bench: Bench) -> None:
    """Those with a name stay; one without goes from container to container, and with the last."""
    (bench.folder / "conf").mkdir(exist_ok=True)
    mounting = WEB + "    volumes:\n      - files:/files\n      - ./conf:/conf:ro\n"
    bench.write(mounting, rest="volumes:\n  files:\n")
    bench.compose(*UP, "web")
    bench.look()
    bench.docker("volume", "inspect", "contract_files")
    bench.compose("up", "-d", "--no-deps", "--force-recreate", "--pull", "never", "web")
    bench.look()
    volume = next(mount for mount in bench.stack.get("web").mounts if deploy_program.is_anonymous_volume(mount))
    bench.docker("rm", "-f", "-v", "web")
    bench.docker("volume", "inspect", "contract_files")
    bench.say(f"  the one without a name is {'gone' if is_gone(bench, volume) else 'there'}")
    bench.write(WEB, rest="volumes:\n  files:\n    external: true\n    name: no-volume\n")
    bench.compose(*UP, "web")
    bench.write(mounting, rest="volumes:\n  files:\n    external: true\n    name: no-volume\n")
    bench.compose("up", "-d", "--no-deps", "--force-recreate", "--pull", "never", "web")
    bench.look()


def folders_of_volumes(bench: Bench) -> None:
    """The host program learns where the data of a volume are, also of one that stands for a folder elsewhere."""
    (bench.folder / "data").mkdir(exist_ok=True)
    mounting = WEB + "    volumes:\n      - files:/files\n      - elsewhere:/elsewhere\n"
    driver = f"    driver_opts:\n      type: none\n      o: bind\n      device: {bench.folder}/data\n"
    bench.write(mounting, rest=f"volumes:\n  files:\n  elsewhere:\n{driver}")
    bench.compose(*UP, "web")
    bench.look()
    folders = bench.stack.folders_of_volumes()
    own_place = bench.stack.get("web").mounts
    for mount in sorted(own_place, key=lambda mount: str(mount["Destination"])):
        folder = folders[mount["Name"]].replace(mount["Name"], "NAME")
        place = folder if folder.startswith(str(bench.folder)) else "/".join(folder.split("/")[-3:])
        bench.say(f"  what is at {mount['Destination']} is in {place}")
    bench.docker("volume", "inspect", "contract_files", "no-volume")


def removal_and_volumes(bench: Bench) -> None:
    """A volume without a name stays when its container is removed, unless that is asked for."""
    bench.write(WEB)
    for options in (["-f"], ["-f", "-v"]):
        bench.compose(*UP, "web")
        bench.look()
        volume = next(mount for mount in bench.stack.get("web").mounts if deploy_program.is_anonymous_volume(mount))
        bench.docker("rm", *options, "web")
        bench.say(f"  the volume is {'gone' if is_gone(bench, volume) else 'there'}")
        is_listed = volume["Name"] in bench.machine.docker("volume", "ls", "-q").out.split()
        bench.say(f"  the volume is {'listed' if is_listed else 'not listed'}")


def removal_by_a_stop(bench: Bench) -> None:
    """A container that a person started with --rm is gone when it is stopped; it has no restart policy."""
    bench.run_by_hand("web", is_removed_when_stopped=True)
    bench.run_by_hand("worker")
    for name in ("web", "worker"):
        is_removed = bench.stack.get(name).is_removed_when_stopped
        bench.say(f"  {name} is {'removed' if is_removed else 'kept'} when it stops")
    bench.look()
    bench.docker("stop", "web")
    bench.docker("stop", "worker")
    bench.look()


def time_to_stop(bench: Bench) -> None:
    """The container has the time that the compose file gives it to end; without one, Docker has a default."""
    bench.write(WEB + "    stop_grace_period: 1m30s\n", WORKER)
    bench.compose(*UP, "web")
    bench.compose(*UP, "worker")
    for name in ("web", "worker"):
        bench.say(f"  {name}: {bench.stack.get(name).stop_seconds} seconds")


def is_gone(bench: Bench, volume: deploy_program.Json) -> bool:
    """Whether a volume is not there any more."""
    return bench.machine.docker("volume", "inspect", volume["Name"]).code != 0


def ports_that_are_taken(bench: Bench) -> None:
    """A container that cannot have its port does not run."""
    ports = '    ports:\n      - "127.0.0.1:18080:8081"\n'
    bench.write(WEB + ports, WORKER + ports)
    bench.compose(*UP, "web")
    bench.look()
    bench.compose("run", "-d", "-T", "--no-deps", "--name", "worker-next", "worker")
    bench.look()
    bench.compose(*UP, "worker")
    bench.look()
    bench.docker("stop", "web")
    bench.docker("start", "worker")
    bench.docker("start", "web")
    bench.look()


def images_by_digest(bench: Bench) -> None:
    """They are looked at, listed and removed by their digests."""
    bench.write(WEB)
    bench.compose(*UP, "web")
    for name in ("one", "labelled"):
        image = bench.machine.json("image", "inspect", bench.images[name])[0]
        engine = bench.machine.json("version", "--format", "{{json .}}")["Server"]
        labels = (image.get("Config") or {}).get("Labels") or {}
        is_for_here = image["Architecture"] == engine["Arch"]
        bench.say(f"  {name}: labels {labels}, {'for' if is_for_here else 'not for'} this server")
        keys = {variable.partition("=")[0] for variable in image["Config"]["Env"]}
        bench.say(f"  its variables are {', '.join(sorted(keys))}")
        runs_it = bench.stack.get("web").image_id == image["Id"]
        bench.say(f"  web {'runs' if runs_it else 'does not run'} it")
    repository = deploy_program.repository_of(bench.images["one"])
    bench.say(f"  {digests_in_list(bench, repository)}")
    bench.docker("image", "rm", bench.images["one"])
    bench.docker("image", "rm", bench.images["two"])
    bench.say(f"  {digests_in_list(bench, repository)}")
    bench.compose(*UP, "web", pins=bench.pin("web", "two"))
    bench.look()


def pulls(bench: Bench) -> None:
    """The host program tells a token that is refused from an image that is missing, and needs none for what it has."""
    bench.machine.docker("image", "rm", bench.images["two"])
    bench.pull("two", "")
    bench.pull("two", "a-wrong-token")
    bench.pull("unknown", bench.token)
    bench.pull("two", bench.token)
    bench.docker("image", "inspect", bench.images["two"])


def digests_in_list(bench: Bench, repository: str) -> str:
    """The images of a repository, as the host program lists them."""
    output = bench.machine.docker("image", "ls", "--digests", "--format", "{{json .}}", repository)
    listed = {f"{repository}@{json.loads(line).get('Digest')}" for line in output.out.splitlines()}
    return " ".join(sorted(name for name, reference in bench.images.items() if reference in listed))


def what_compose_reads(bench: Bench) -> None:
    """The parts of `docker compose config` that the host program reads."""
    (bench.folder / ".env").write_text("PLAIN=a b\nSINGLE='costs $5'\nDOUBLE=\"x\\ny $HOME\"\nGONE=a$5b # c\n")
    full = """
  web:
    image: ghcr.io/acme/web:main
    container_name: web
    env_file: .env
    environment:
      NUMBER: 1
      IS_SO: true
    labels:
      deploy.health: ":8080/health"
      deploy.migrate: "sh -c 'echo $$5 > x'"
    mem_limit: 64m
    ports:
      - "127.0.0.1:8080:80"
      - "53:53/udp"
      - "9000"
    volumes:
      - files:/files
      - ./conf:/conf:ro
      - /data
    networks:
      proxy:
        aliases:
          - shop
      default:
"""
    bench.write(full, WORKER, rest="  default:\nvolumes:\n  files:\n  others:\n    external: true\n")
    bench.stack.read_compose_file()
    model = bench.stack.model
    for kind in ("networks", "volumes"):
        for name, settings in sorted(model[kind].items()):
            bench.say(f"{kind[:-1]} {name}: {settings['name']}, external {bool(settings.get('external'))}")
    for name, service in sorted(bench.stack.services.items()):
        bench.say(f"service {name}")
        for line in service_in_words(service):
            bench.say(f"  {line}")


def service_in_words(service: deploy_program.Service) -> list[str]:
    """A service as the host program reads it."""
    lines = [f"image {service.model['image']}", f"container {service.container_name}"]
    lines += [f"label {key}={text}" for key, text in sorted(service.labels.items())]
    lines += [f"{key}={text}" for key, text in sorted((service.model.get("environment") or {}).items())]
    lines += [f"port {port.number}/{port.protocol}" for port in service.published]
    lines += [f"on {network} as {', '.join(service.names_on(network))}" for network in sorted(service.networks)]
    for volume in service.model.get("volumes") or []:
        settings = [f"{key}={volume[key]}" for key in ("type", "source", "target", "read_only") if volume.get(key)]
        lines.append(f"volume {' '.join(settings)}")
    lines.append(f"depends on {sorted(service.dependencies)}, restart {service.restart_policy}")
    lines.append(f"memory {service.model.get('mem_limit')}")
    return lines


def what_compose_cannot_read(bench: Bench) -> None:
    """It ends with an error: the host program then says where to look."""
    for text in ("services: [\n", "name: x\n", "services:\n  web:\n    image: a\n    env_file: missing.env\n", ""):
        (bench.folder / deploy_program.COMPOSE_FILE).write_text(text)
        bench.say(f"  {text!r}")
        bench.compose("config", "--format", "json")
    (bench.folder / ".env").write_text("NO EQUALS SIGN\n")
    bench.write(WEB.replace("    restart", "    env_file: .env\n    restart"))
    bench.compose("config", "--format", "json")
    bench.write(WEB)
    bench.compose("config", "--hash", "nobody")


def versions(bench: Bench) -> None:
    """They have the form that the host program reads."""
    engine = bench.machine.json("version", "--format", "{{json .}}")["Server"]
    compose = bench.machine.docker("compose", "version", "--short").out.strip()
    is_new_enough = deploy_program.version_of(engine["Version"]) >= deploy_program.OLDEST_ENGINE
    bench.say(f"  the engine is {'new enough' if is_new_enough else 'too old'}")
    is_new_enough = deploy_program.version_of(compose) >= deploy_program.OLDEST_COMPOSE
    bench.say(f"  Compose is {'new enough' if is_new_enough else 'too old'}")
    folder = bench.machine.json("info", "--format", "{{json .}}").get("DockerRootDir")
    bench.say(f"  its folder is {'known' if str(folder).startswith('/') else 'unknown'}")


SCRIPTS: dict[str, Callable[[Bench], None]] = {
    script.__name__.replace("_", "-"): script
    for script in (
        life_of_a_container,
        end_of_a_container,
        restart_policies,
        next_start,
        what_is_not_there,
        names_that_are_taken,
        beginning_of_an_id,
        names_on_a_network,
        up_recreates,
        up_and_dependencies,
        up_and_renamed_containers,
        up_and_one_off_containers,
        commands_that_end,
        one_more_container,
        volumes,
        folders_of_volumes,
        removal_and_volumes,
        removal_by_a_stop,
        time_to_stop,
        ports_that_are_taken,
        images_by_digest,
        pulls,
        what_compose_reads,
        what_compose_cannot_read,
        versions,
    )
}


def transcript(bench: Bench, name: str) -> str:
    """What a script has to say."""
    SCRIPTS[name](bench)
    return "\n".join([f"# {(SCRIPTS[name].__doc__ or '').strip()}", *bench.lines, ""])
