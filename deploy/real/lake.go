package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/octroi/octroi/export/s3test/freeport"
)

// lake is a real PostgreSQL server of the machine, where the destinations' teams also load to, each into a schema of its own.
type lake struct {
	*run
	programs, folder, port string
	as                     *syscall.Credential // nil: who runs this
}

// startLake is nil where the machine has no PostgreSQL; CI must have one.
func (r *run) startLake(ctx context.Context) (*lake, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			return nil, errors.New("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
		}
		fmt.Println("PostgreSQL is left out: there is none in /usr/lib/postgresql (apt-get install postgresql)")
		return nil, nil
	}
	l := &lake{run: r, programs: filepath.Dir(found[len(found)-1])}
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	if _, l.port, err = net.SplitHostPort(address); err != nil {
		return nil, err
	}
	if l.folder, err = os.MkdirTemp("", "octroi-lake-"); err != nil { // not in the run's own, which is closed to other users
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func (l *lake) start(ctx context.Context) error {
	if err := l.unprivileged(); err != nil {
		return err
	}
	data := filepath.Join(l.folder, "data")
	for _, args := range [][]string{
		{"initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"},
		{
			"pg_ctl", "-D", data, "-l", filepath.Join(l.folder, "log"), "-w", "-t", "60",
			"-o", "-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c port=" + l.port, "start",
		},
		{"createuser", "-h", "127.0.0.1", "-p", l.port, "-U", "postgres", "loader"},
		{"createdb", "-h", "127.0.0.1", "-p", l.port, "-U", "postgres", "-O", "loader", "lake"},
	} {
		if out, err := l.command(ctx, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

// unprivileged gives the folder to another user where root runs this: the server refuses root.
func (l *lake) unprivileged() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return err
		}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	l.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return errors.Join(err1, err2, os.Chown(l.folder, int(uid), int(gid)))
}

func (l *lake) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(l.programs, args[0]), args[1:]...)
	c.Dir, c.Env = l.folder, []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	if l.as != nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: l.as}
	}
	return c
}

func (l *lake) dsn() string { return "postgres://loader@127.0.0.1:" + l.port + "/lake?sslmode=disable" }

func (l *lake) stop() {
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = l.command(ctx, "pg_ctl", "-D", filepath.Join(l.folder, "data"), "-m", "immediate", "-w", "stop").Run() // it may not have started
	_ = os.RemoveAll(l.folder)
}

// load brings the lake up to what the streams have, and reads it.
func (l *lake) load(ctx context.Context, into holdings) error {
	if l == nil {
		return nil
	}
	file := l.path("warehouse", "lake.dsn")
	if err := os.WriteFile(file, []byte(l.dsn()+"\n"), 0o600); err != nil {
		return err
	}
	for _, d := range destinations {
		args := append(l.streamArgs(d), "--into-postgres", file, "--schema", d.name)
		if err := l.exec(ctx, filepath.Join(l.bin, "octroi-load"), append([]string{"once"}, args...)...); err != nil {
			return err
		}
		into["PostgreSQL of "+d.name] = newLoaded()
		if err := l.read(ctx, d.name, into["PostgreSQL of "+d.name]); err != nil {
			return err
		}
	}
	return nil
}

// read reads a destination's events, and each row as PostgreSQL spells it.
func (l *lake) read(ctx context.Context, schema string, into *loaded) error {
	conn, err := pgx.Connect(ctx, l.dsn())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT event_id, coalesce(person, ''), time, coalesce(value_minor, 0), e::text FROM `+
		pgx.Identifier{schema, "events"}.Sanitize()+` e`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		var text string
		if err := rows.Scan(&r.id, &r.person, &r.time, &r.cents, &text); err != nil {
			return err
		}
		r.text = sha256.Sum256([]byte(text))
		if err := into.add(r); err != nil {
			return err
		}
	}
	return rows.Err()
}
