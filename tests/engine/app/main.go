// A service small enough for an image FROM scratch: it answers every path with its version.
// How it behaves is baked into the image, the way a good or a bad commit is.
package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	version, behaviour := os.Getenv("VERSION"), os.Getenv("BEHAVIOUR")
	if len(os.Args) > 2 && os.Args[1] == "ends" {
		ends(os.Args[2], os.Args[3:])
	}
	if behaviour == "runs-once" {
		ends("0", os.Args[1:])
	}
	if behaviour == "runs-once-and-fails" {
		ends("7", os.Args[1:])
	}
	if len(os.Args) > 1 && os.Args[1] == "says" {
		fmt.Println(os.Args[2:])
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "migrate" {
		migrate(behaviour)
	}
	if len(os.Args) > 1 && os.Args[1] == "work" && behaviour == "answers" {
		behaviour = "works"
	}
	for line := 0; line < 40; line++ {
		fmt.Fprintln(os.Stderr, "loads part", line)
	}
	fmt.Fprintf(os.Stderr, "version %s starts (%s)\n", version, behaviour)
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			time.Sleep(10 * time.Second)
		case "/upload": // as slow as whoever sends it
			_, _ = io.Copy(io.Discard, r.Body)
		}
		fmt.Fprint(w, version)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)

	switch behaviour {
	case "exits": // what a log holds is the image's choice: no line of it may speak to GitHub's runner
		fmt.Fprint(os.Stderr, "::error::spoken by a container\nline\r::add-mask::o\n##[error]spoken by a container\n")
		os.Exit(3)
	case "hangs": // after one answer that is none
		first := true
		answer = func(w http.ResponseWriter, r *http.Request) {
			if first {
				first = false
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			<-r.Context().Done()
		}
	case "restarts": // answers at first
		time.AfterFunc(2*time.Second, func() { os.Exit(4) })
	case "dies-in-20s": // long after it first answered
		time.AfterFunc(20*time.Second, func() { os.Exit(4) })
	case "boots-slowly":
		time.Sleep(3 * time.Second)
	case "boots-in-8s", "boots-in-20s", "boots-in-70s":
		seconds, _ := time.ParseDuration(strings.TrimPrefix(behaviour, "boots-in-"))
		time.Sleep(seconds)
	case "answers-400":
		answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }
	case "answers-500":
		answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	case "shows-its-environment": // what a variable holds, whose name is the path
		answer = func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv(r.URL.Path[1:])) }
	case "shows-its-file": // as it was when this process started
		content, _ := os.ReadFile("/conf/site")
		answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, string(content)) }
	case "wants-its-domain": // as Django does with ALLOWED_HOSTS and SECURE_SSL_REDIRECT
		answer = func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "shop.example.com" || r.Header.Get("X-Forwarded-Proto") != "https" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			fmt.Fprint(w, version)
		}
	case "wants-to-be-alone": // ends when another one of it runs
		if taken("pos-api-staging-next") {
			os.Exit(5)
		}
	case "works": // no port: a queue's worker
		<-stop
		return
	}

	either := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			talk(w, r, version)
		} else {
			answer(w, r)
		}
	}
	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: http.HandlerFunc(either)}
	go func() {
		<-stop
		_ = server.Shutdown(context.Background()) // finishes what it has begun
		os.Exit(0)
	}()
	fmt.Println(server.ListenAndServe())
	select {}
}

// ends is what runs once: says its version and its words, for as long as they are seconds, and ends with that code.
func ends(code string, words []string) {
	fmt.Printf("version %s runs once: %q\n##[error]spoken by what runs once\n", os.Getenv("VERSION"), words)
	for _, word := range words {
		seconds, _ := time.ParseDuration(word)
		time.Sleep(seconds)
	}
	number, _ := strconv.Atoi(code)
	os.Exit(number)
}

// migrate asks the database of DATABASE_URL, as PostgreSQL is asked, whether it speaks TLS; any answer is one of PostgreSQL.
func migrate(behaviour string) {
	place, _ := url.Parse(os.Getenv("DATABASE_URL"))
	connection, err := net.DialTimeout("tcp", place.Host, 10*time.Second)
	if err != nil {
		fmt.Println("the database does not answer:", err)
		os.Exit(1)
	}
	answer := make([]byte, 1)
	_, _ = connection.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47})
	if _, err := io.ReadFull(connection, answer); err != nil || (answer[0] != 'N' && answer[0] != 'S') {
		fmt.Println("this is not PostgreSQL:", err)
		os.Exit(1)
	}
	fmt.Println("migrates the PostgreSQL at", place.Host)
	if behaviour == "migration-fails" {
		os.Exit(3)
	}
	os.Exit(0)
}

// talk is a WebSocket that answers whatever it hears with the version, in a frame of text.
func talk(w http.ResponseWriter, r *http.Request, version string) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	accept := base64.StdEncoding.EncodeToString(sum[:])
	connection, _, _ := w.(http.Hijacker).Hijack()
	defer connection.Close()
	fmt.Fprintf(connection, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", accept)
	for heard := make([]byte, 64); ; {
		if _, err := connection.Read(heard); err != nil {
			return
		}
		fmt.Fprintf(connection, "\x81%c%s", len(version), version)
	}
}

// taken tells whether a name leads to somebody else.
func taken(name string) bool {
	addresses, _ := net.LookupHost(name)
	own, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		foreign := true
		for _, mine := range own {
			foreign = foreign && mine.(*net.IPNet).IP.String() != address
		}
		if foreign {
			return true
		}
	}
	return false
}
