"""Features that kiwari-ci leaves out on purpose: the reason, and what to do instead."""

import re

from kiwari_ci.frozen import dataclass


@dataclass(frozen=True)
class UnsupportedFeature:
    """A pattern of keys that ask for the feature, its name, the reason why it is left out, and an alternative."""

    keys: str
    what: str
    why: str
    instead: str


UNSUPPORTED_FEATURES = (
    UnsupportedFeature(
        "previews?|preview_(app|environment)s?|review_apps?|pull_requests?|ephemeral",
        "a stack for each pull request",
        "the code of whoever opens one would run beside production",
        "project.pull_requests tests and builds each; an environment on a branch of its own shows one",
    ),
    UnsupportedFeature(
        "podman|quadlets?|systemd|systemd_units?|containerd",
        "another engine than Docker",
        "what serves is asked of Docker, and tried with Docker alone",
        "Docker Engine with its compose plugin, beside the other one",
    ),
    UnsupportedFeature(
        "swarm|docker_swarm",
        "Docker Swarm",
        "its health check must be inside the image: on three nodes, a version that hangs took 321 of 415 requests, and "
        "the command said `converged`; it reports success after a rollback, and whoever deploys is root on every node",
        "`host: [one, two]` and `replicas`",
    ),
    UnsupportedFeature(
        "nomad|ecs|fargate|mesos",
        "another cluster than Kubernetes",
        "what serves is asked of Kubernetes, and tried with Kubernetes alone",
        "`hosts: {cluster: {engine: kubernetes}}`, or `host: [one, two]` and `replicas`",
    ),
    UnsupportedFeature(
        "helm|kustomize|argo(_?cd)?|flux|gitops",
        "Helm charts and GitOps",
        "the job that deploys says what serves; a program in the cluster would apply the files some time later",
        "`engine: kubernetes`, whose files a deploy applies; or Argo CD with the images of the workflows",
    ),
    UnsupportedFeature(
        "autoscale|autoscaling|autoscaler|hpa|min_replicas|max_replicas",
        "a number of replicas that changes by itself",
        "each deploy sets the number, and two programs would change it in turn",
        "`replicas`, for the peak",
    ),
    UnsupportedFeature(
        "lambda|serverless|functions|static(_site)?|s3|cdn|github_pages",
        "hosting without a server",
        "nothing there could be asked which bytes it serves",
        "a service whose image has a web server for its files",
    ),
    UnsupportedFeature(
        "gitlab|gitlab_ci|bitbucket|circleci|jenkins|drone",
        "pipelines of other services than GitHub Actions",
        "everything was tried on GitHub's workflows alone",
        "`kiwari-ci eject` leaves compose files and a host program that any of them can call",
    ),
    UnsupportedFeature(
        "canary|blue_green|traffic|weights?|strategy|rolling_update",
        "a part of the traffic for a new version",
        "the new one takes over when it has answered, and nothing is lost meanwhile",
        "`rollout` and `replicas`; an environment of its own for a few users",
    ),
    UnsupportedFeature(
        "vault|sops|doppler|infisical|one_?password|secrets_manager|secret_store|aws_secrets",
        "secrets from a vault",
        "each has a login of its own, which the host or GitHub would have to keep",
        "`env_from: github`, with secrets that the vault copies to GitHub; or env files on the host",
    ),
    UnsupportedFeature(
        "tailscale|wireguard|vpn|tunnel|cloudflared?",
        "a private network joined by the job",
        "its key would open more than one host to whoever changes a workflow",
        "`hosts.*.proxy_command` with the program and its login, or `jump`, or a runner inside the network "
        "(`project.runner`); for domains, cloudflared leads to `proxy.listen`",
    ),
    UnsupportedFeature(
        "terraform|ansible|provision(ing)?|cloud_?init|firewall|users",
        "a server that is set up",
        "it is rented once, and the runbook has its few commands",
        "the runbook, step 1; `kiwari-ci doctor` tells what the server lacks",
    ),
    UnsupportedFeature(
        "notify|notifications?|slack|discord|telegram|teams|webhooks?|alerts?",
        "messages to a chat",
        "GitHub writes to whoever started a run that is red",
        "`steps.after_deploy` of a service, with `when: failure`",
    ),
    UnsupportedFeature(
        "releases?|changelog|semver|semantic_release|version_bump|bump",
        "versions that are chosen by a program",
        "a tag is how a person says that this is to serve",
        "`git tag v1.2.0 && git push origin v1.2.0`; a bot that pushes a tag with a token of its own starts it, too",
    ),
    UnsupportedFeature(
        "approvals?|approvers|reviewers|wait_timer|protection|manual_approval",
        "approvals",
        "GitHub keeps them beside the environment, where a pull request cannot change them",
        "GitHub: Settings, Environments, required reviewers: the deploy's job then waits",
    ),
    UnsupportedFeature(
        "sign|signing|cosign|sbom|provenance",
        "a signature with a key of one's own",
        "a key would be one more secret of the job",
        "`build: {attest: true}`: GitHub signs",
    ),
    UnsupportedFeature(
        "trivy|grype|snyk|sonar(qube)?|codeql|security",
        "a scanner of our choice",
        "there are many, and each has versions to follow",
        "`build: {scan: {image: …, command: […]}}` for an image; a workflow of your own for code",
    ),
    UnsupportedFeature(
        "watchtower|auto_update|auto_deploy|image_updates?",
        "images that update themselves",
        "nobody would know which bytes serve, or go back to others",
        "`deploy_on`; for accessories a new version in the spec",
    ),
)


def find_unsupported_feature(key: str) -> UnsupportedFeature | None:
    """The feature that an unknown key asks for, when it is one that kiwari-ci leaves out on purpose."""
    normalized_key = key.lower().replace("-", "_")
    for feature in UNSUPPORTED_FEATURES:
        if re.fullmatch(feature.keys, normalized_key):
            return feature
    return None
