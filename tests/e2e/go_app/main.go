// An application of pgx: a pool, lookups by many goroutines, batches (pipelined), COPY, transactions, errors.
// Prints `ok` at the end; any surprise panics.
//
//	go run . PORT DATABASE [distribute]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

var ctx = context.Background()

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func same(wanted, found any) {
	if wanted != found {
		panic(fmt.Sprintf("wanted %v, found %v", wanted, found))
	}
}

func stateOf(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return fmt.Sprint(err)
}

func load(pool *pgxpool.Pool, distribute bool) {
	_, err := pool.Exec(ctx, "DROP TABLE IF EXISTS go_people")
	must(err)
	_, err = pool.Exec(ctx, "CREATE TABLE go_people (id bigint PRIMARY KEY, name text, n int)")
	must(err)
	if distribute {
		_, err = pool.Exec(ctx, "SELECT shoal.distribute_table('go_people', 'id')")
		must(err)
	}
	count, err := pool.CopyFrom(ctx, pgx.Identifier{"go_people"}, []string{"id", "name", "n"},
		pgx.CopyFromSlice(500, func(i int) ([]any, error) { return []any{i + 1, fmt.Sprint("name ", i+1), i}, nil }))
	must(err)
	same(int64(500), count)
}

func lookups(pool *pgxpool.Pool) {
	var all sync.WaitGroup
	for g := 0; g < 24; g++ {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			for n := 0; n < 40; n++ {
				id := (g*31+n*7)%520 + 1
				var name string
				err := pool.QueryRow(ctx, "SELECT name FROM go_people WHERE id = $1", id).Scan(&name)
				if id > 500 {
					same(pgx.ErrNoRows, err)
					continue
				}
				must(err)
				same(fmt.Sprint("name ", id), name)
			}
		}(g)
	}
	all.Wait()
}

// Many lookups of one client in one flight, an error among them.
func batches(pool *pgxpool.Pool) {
	batch := &pgx.Batch{}
	for id := 1; id <= 100; id++ {
		batch.Queue("SELECT name FROM go_people WHERE id = $1", id)
	}
	batch.Queue("SELECT 1 / (n - n) FROM go_people WHERE id = $1", 5)
	results := pool.SendBatch(ctx, batch)
	for id := 1; id <= 100; id++ {
		var name string
		must(results.QueryRow().Scan(&name))
		same(fmt.Sprint("name ", id), name)
	}
	var nothing int
	same("22012", stateOf(results.QueryRow().Scan(&nothing)))
	results.Close()
}

func transactions(pool *pgxpool.Pool) {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for id := 1; id <= 10; id++ {
			if _, err := tx.Exec(ctx, "UPDATE go_people SET n = n + 1 WHERE id = $1", id); err != nil {
				return err
			}
		}
		inner := pgx.BeginFunc(ctx, tx, func(sub pgx.Tx) error { // a savepoint
			_, err := sub.Exec(ctx, "INSERT INTO go_people VALUES ($1, 'again', 0)", 1)
			return err
		})
		same("23505", stateOf(inner))
		return nil
	})
	must(err)
	var n int
	must(pool.QueryRow(ctx, "SELECT n FROM go_people WHERE id = 7").Scan(&n))
	same(7, n)
	must(pool.QueryRow(ctx, "SELECT count(*) FROM go_people").Scan(&n))
	same(500, n)
}

func main() {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		pool, err := pgxpool.New(ctx, fmt.Sprintf("postgres://app@127.0.0.1:%s/%s?sslmode=disable&pool_max_conns=12&default_query_exec_mode=%s",
			os.Args[1], os.Args[2], mode))
		must(err)
		load(pool, len(os.Args) > 3)
		lookups(pool)
		batches(pool)
		transactions(pool)
		pool.Close()
	}
	fmt.Println("ok")
}
