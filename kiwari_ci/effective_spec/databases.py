"""Database servers, and the database of an environment."""

from kiwari_ci import schema
from kiwari_ci.effective_spec.hosts import EffectiveHost
from kiwari_ci.frozen import dataclass

PLACEHOLDER = "change-me"  # in the example of an env file, for what a person fills in
POSTGRES_PORT = "5432"


@dataclass(frozen=True)
class EffectiveDatabaseServer:
    """A PostgreSQL server with its host and its network."""

    name: str
    model: schema.DatabaseServer
    host: EffectiveHost

    @property
    def network(self) -> str:
        """The Docker network that reaches it."""
        return self.model.network or self.name

    @property
    def owns_network(self) -> bool:
        """Whether the server's stack creates that network; the proxy's network is there already."""
        return self.network != self.host.proxy.network


@dataclass(frozen=True)
class EffectiveDatabase:
    """The database of an environment, and the role that owns it."""

    model: schema.Database
    server: EffectiveDatabaseServer
    default_name: str

    @property
    def name(self) -> str:
        """The database's name."""
        return self.model.name or self.default_name

    @property
    def user(self) -> str:
        """The role that owns the database."""
        return self.model.user or self.name

    @property
    def password_key(self) -> str:
        """The key of the role's password in the server's own env file."""
        if self.model.password:
            return self.model.password.env
        return f"{self.user}_password".upper()

    def field(self, field: str) -> str:
        """Return what `{database: FIELD}` stands for; a URL has a placeholder for the password."""
        fields = {
            "host": self.server.name,
            "port": POSTGRES_PORT,
            "name": self.name,
            "user": self.user,
            "url": f"postgres://{self.user}:{PLACEHOLDER}@{self.server.name}:{POSTGRES_PORT}/{self.name}"
            "?sslmode=disable",
        }
        return fields[field]
