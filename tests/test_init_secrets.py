"""What `init` reads in a repository and must not copy into a spec: values that may be secret."""

from pathlib import Path

import pytest

from kiwari_ci.readers.vocabulary import is_secret
from tests.cli_runner import kiwari_ci

# Each value has a part of its own, by which it would be found wherever it was copied.
SECRETS = {
    "SLACK_WEBHOOK": "https://hooks.slack.com/services/T00/B00/leak01",
    "ALERTS": "https://discord.com/api/webhooks/123/leak02",
    "JWT": "leak03",
    "SESSION": "leak04",
    "AUTH": "Bearer leak05",
    "UPSTREAM_HEADER": "Authorization: Basic leak06",
    "MAPS_URL": "https://maps.example.com/v1?key=leak07",
    "FEED": "https://feed.example.com/x?lang=en&access_token=leak08",
    "PROBE": "curl -u admin:leak09 http://localhost/",
    "PROBE_LONG": "curl --user admin:leak10 http://localhost/",
    "DB": "postgres://app:leak11@db/app",
    "SENTRY": "https://leak12@o1.ingest.example.com/2",
    "DATABASE_PASSWORD": "leak13",
    "ADMIN_PASS": "leak14",
    "ROOT_PW": "leak15",
    "COOKIE": "leak16",
    "SIGNING_KEY": "leak17",
    "HASH_SALT": "leak18",
    "stripeApiKey": "leak19",
    "API_KEY_V2": "leak20",
    "PASSWORD_OLD": "leak21",
    "WEBHOOK_URL": "https://example.com/leak22",
    "LICENSE": "leak23",
    "REDIS_ARGS": "--requirepass leak24",
    "JAVA_OPTS": "-Dapp.token=leak25",
    "CONNECTION": "Server=db;Password=leak26;Database=a",
    "MONGO": "mongodb+srv://user:leak27@cluster.example.com",
    "PAYMENT": "sk_test_leak28leak28",
    "BACKUP": "glpat-leak29leak29leak29",
    "OPAQUE": "q8Zt2Lm9Xw4Rk7Vb1Nc6",
    "DIGEST": "9f86d081884c7d659a2feaa0c55ad015",
    "ENCODED": "bGVhazMyIGxlYWszMg==",
    "TENANT": "8c2f4f5e-0d6c-4b7a-9f1e-2a3b4c5d6e7f",
    "ACCOUNT": "AKIAIOSFODNN7EXAMPLE",
    "BOT": "123456789:AAF-leak35leak35leak35leak35leak35",
    "HTPASSWD_LINE": "admin:$2y$05$leak36",
    "PIN": "leak37",
    "MY_CREDS": "leak38",
}
HARMLESS = {
    "PORT": "8080",
    "NODE_ENV": "production",
    "LOG_LEVEL": "debug",
    "SESSION_DRIVER": "redis",
    "SESSION_TIMEOUT": "30m",
    "AUTH_URL": "https://auth.example.com/login",
    "TOKEN_TTL": "3600",
    "PASSWORD_MIN_LENGTH": "12",
    "AWS_REGION": "eu-central-1",
    "CHARSET": "utf8mb4_unicode_ci",
    "APP_NAME": "my-shop-2024-production",
    "TZ": "Europe/Berlin",
    "NEXT_PUBLIC_SITE": "shop.example.com",
    "KEYCLOAK_REALM": "shop",
    "TOKENIZER": "whitespace",
    "BUCKET": "shop-uploads-eu",
    "OIDC_ISSUER": "https://login.example.com/realms/shop",
}


@pytest.mark.parametrize(("key", "value"), SECRETS.items())
def test_a_value_that_may_be_a_secret_is_one(key: str, value: str) -> None:
    assert is_secret(key, value)


@pytest.mark.parametrize(("key", "value"), HARMLESS.items())
def test_an_ordinary_setting_is_copied(key: str, value: str) -> None:
    assert not is_secret(key, value)


def test_init_copies_no_secret_from_anywhere(tmp_path: Path) -> None:
    lines = [f"      {key}: '{value.replace('$', '$$')}'" for key, value in SECRETS.items()]
    labels = [f"      app.{key.lower()}: '{value.replace('$', '$$')}'" for key, value in SECRETS.items()]
    arguments = [f"        {key}: '{value.replace('$', '$$')}'" for key, value in SECRETS.items()]
    (tmp_path / "Dockerfile").write_text("FROM scratch\nEXPOSE 80\n")
    (tmp_path / "compose.prod.yml").write_text(
        "\n".join(
            [
                "services:",
                "  web:",
                "    build:",
                "      context: .",
                "      args:",
                *arguments,
                "    image: ghcr.io/a/web",
                "    ports: ['80:80']",
                f"    healthcheck: {{test: '{SECRETS['PROBE']}'}}",
                f"    command: [run, '{SECRETS['JAVA_OPTS']}', '{SECRETS['OPAQUE']}']",
                "    environment:",
                *lines,
                "    labels:",
                *labels,
                "  side:",
                "    image: redis:7",
                f"    command: redis-server {SECRETS['REDIS_ARGS']}",
                "    environment:",
                *lines,
            ]
        )
    )
    (tmp_path / ".env.example").write_text("".join(f"{key}={value}\n" for key, value in SECRETS.items()))
    result = kiwari_ci("init", tmp_path, "--repository", "a/web")
    written = "".join(path.read_text() for path in tmp_path.glob("specs/*"))
    assert written, result
    shown = result.out + result.err + written
    for key, value in SECRETS.items():
        for part in value.split():
            secret = part.rpartition("=")[2] or part
            assert len(secret) < 6 or secret not in shown, (key, secret)
    assert "leak" not in shown
    assert "secret" in written
