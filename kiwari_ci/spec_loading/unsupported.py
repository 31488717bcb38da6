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
        "the code of everybody who opens a pull request would run beside production",
        "`project.pull_requests` tests and builds each one; to try one out, use an environment on its own branch",
    ),
    UnsupportedFeature(
        "podman|quadlets?|systemd|systemd_units?|containerd",
        "another engine than Docker",
        "the deploy asks Docker what is serving, and was tested with Docker only",
        "Docker Engine with its Compose plugin, in addition to the other engine",
    ),
    UnsupportedFeature(
        "swarm|docker_swarm",
        "Docker Swarm",
        "Swarm can only run a health check inside the container, with a program of the image. In a test with three "
        "nodes, a version that hung got 321 of 415 requests, and the command reported `converged`. It also reports "
        "success after a rollback, and whoever deploys is root on every node",
        "`host: [one, two]` and `replicas`",
    ),
    UnsupportedFeature(
        "nomad|ecs|fargate|mesos",
        "another cluster than Kubernetes",
        "the deploy asks Kubernetes what is serving, and was tested with Kubernetes only",
        "`hosts: {cluster: {engine: kubernetes}}`, or `host: [one, two]` and `replicas`",
    ),
    UnsupportedFeature(
        "helm|kustomize|argo(_?cd)?|flux|gitops",
        "Helm charts and GitOps",
        "the deploy job must know what is serving when it ends; a program in the cluster applies files at a later time",
        "`engine: kubernetes`, whose files a deploy applies; or Argo CD with the images of the workflows",
    ),
    UnsupportedFeature(
        "autoscale|autoscaling|autoscaler|hpa|min_replicas|max_replicas",
        "a number of replicas that changes by itself",
        "each deploy sets the number, so two programs would overwrite each other's number",
        "`replicas`, as many as the highest load needs",
    ),
    UnsupportedFeature(
        "lambda|serverless|functions|static(_site)?|s3|cdn|github_pages",
        "hosting without a server",
        "a deploy cannot ask such a service which image or files it serves",
        "a service whose image contains a web server and the files",
    ),
    UnsupportedFeature(
        "gitlab|gitlab_ci|bitbucket|circleci|jenkins|drone",
        "pipelines of other services than GitHub Actions",
        "the pipeline was tested with GitHub's workflows only",
        "`kiwari-ci eject`: any of these services can use the Compose files and call the program on the host",
    ),
    UnsupportedFeature(
        "canary|blue_green|traffic|weights?|strategy|rolling_update",
        "a part of the traffic for a new version",
        "the new version takes over all traffic when it has answered, and no request is lost",
        "`rollout` and `replicas`; an environment of its own for a few users",
    ),
    UnsupportedFeature(
        "vault|sops|doppler|infisical|one_?password|secrets_manager|secret_store|aws_secrets",
        "secrets from a vault",
        "the host or GitHub would have to keep a login for the vault",
        "`env_from: github`, with secrets that the vault copies to GitHub; or env files on the host",
    ),
    UnsupportedFeature(
        "dotenv|dotenv_secret|env_files?_(secret|content)|env_(blob|secret)",
        "a whole `.env` in one secret",
        "nobody could see in a pull request which keys a service reads, and a deploy could not name the one that is "
        "missing",
        "`env_from: github` with a secret for each key; or the `.env`, copied once to the host",
    ),
    UnsupportedFeature(
        "commit_variable|release_variable|version_variable|image_tag_variable|git_sha",
        "the commit or the tag as a variable of a container",
        "production runs the image that staging has tested, with the commit that it was built from; a tag comes later",
        "a step in `steps.before_build` that writes the commit into a file of the image: "
        '`echo "$GITHUB_SHA" >api/COMMIT`',
    ),
    UnsupportedFeature(
        "tailscale|wireguard|vpn|tunnel|cloudflared?",
        "a private network joined by the job",
        "its key would give everybody who can change a workflow access to more than one host",
        "`hosts.*.proxy_command` with the program and its login, or `jump`, or a runner inside the network "
        "(`project.runner`); for domains, cloudflared and `proxy.listen`",
    ),
    UnsupportedFeature(
        "terraform|ansible|provision(ing)?|cloud_?init|firewall|users",
        "the setup of a server",
        "you set up a server only once, and the runbook has the few commands for it",
        "the runbook, step 1; `kiwari-ci doctor` reports what the server lacks",
    ),
    UnsupportedFeature(
        "notify|notifications?|slack|discord|telegram|teams|webhooks?|alerts?",
        "messages to a chat",
        "GitHub already notifies the person who started a run that fails",
        "a workflow of your own with the trigger `workflow_run`, as in docs/notify.md, for tests, builds and deploys "
        "that fail; `steps.after_deploy` of a service, with `when: failure`, for a deploy alone",
    ),
    UnsupportedFeature(
        "image_tag|tag_prefix|tag_suffix|repository_name|single_repository",
        "several images in one repository of a registry",
        "the pipeline writes the tags, and finds an image of a commit or a version by them",
        "a repository for each image, `<namespace>/<image>`; if the registry has no room for more private ones, "
        "as with Docker Hub's free plan, use ghcr.io",
    ),
    UnsupportedFeature(
        "releases?|changelog|semver|semantic_release|version_bump|bump",
        "versions that are chosen by a program",
        "a person decides what is released, and pushes a tag for it",
        "`git tag v1.2.0 && git push origin v1.2.0`; a bot with a token of its own can push the tag, too",
    ),
    UnsupportedFeature(
        "approvals?|approvers|reviewers|wait_timer|protection|manual_approval",
        "approvals",
        "they are a setting of GitHub's environments, where a pull request cannot change them",
        "On GitHub: Settings, Environments, required reviewers. The deploy job then waits for the approval",
    ),
    UnsupportedFeature(
        "skip_tests?|without_tests?|emergency",
        "a deploy that skips the tests",
        "a green run means that the tests of this commit passed",
        "`kiwari-ci rollback`, which builds and tests nothing; or `deploy_on: {dispatch: true}`, with which a person "
        "can deploy a commit again if it has already served",
    ),
    UnsupportedFeature(
        "sign|signing|cosign|sbom|provenance",
        "signatures with a key of your own",
        "the key would be one more secret that the job has",
        "`build: {attest: true}`, with which GitHub signs the image",
    ),
    UnsupportedFeature(
        "trivy|grype|snyk|sonar(qube)?|codeql|security",
        "a built-in scanner",
        "there are many scanners, and each has versions that somebody must follow",
        "`build: {scan: {image: …, command: […]}}` for an image; a workflow of your own for code",
    ),
    UnsupportedFeature(
        "watchtower|auto_update|auto_deploy|image_updates?",
        "images that update themselves",
        "nobody would know which image is serving, or could go back to another one",
        "`deploy_on`; for an accessory, write a new version into the spec",
    ),
)


def find_unsupported_feature(key: str) -> UnsupportedFeature | None:
    """The feature that an unknown key asks for, when it is one that kiwari-ci leaves out on purpose."""
    normalized_key = key.lower().replace("-", "_")
    for feature in UNSUPPORTED_FEATURES:
        if re.fullmatch(feature.keys, normalized_key):
            return feature
    return None
