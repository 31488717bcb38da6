module github.com/kiwari-pos/api

go 1.25.7

require (
	github.com/go-chi/chi/v5 v5.2.5
	github.com/gorilla/websocket v1.5.3
	github.com/jackc/pgx/v5 v5.8.0
)
