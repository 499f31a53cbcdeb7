// Command lint holds the tree to the rules that no other tool knows: the import graph is the pipeline and nothing points left,
// each library stays in its files, the top level is fixed, names say what a thing is, functions and files stay short, and no
// package keeps state of its own.
//
//	go run ./deploy/lint [folder]
//	go run ./deploy/lint -reach https://vuln.go.dev/index/db.json
//
// It reads source, not build output, so files of every platform and tag count. It prints one line for each breach and exits 1; an
// empty or half-empty tree is a breach too, because a check that looked at nothing has found nothing. With -reach it only says, by
// its exit code and within five seconds, whether a page answers: the Makefile asks before it runs what needs that page.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
)

// leastPackages is how many packages there are at least: fewer were looked at, and lint looked in the wrong place.
const leastPackages = 12

func main() {
	page := flag.String("reach", "", "only say whether this `page` answers")
	flag.Parse()
	if *page != "" {
		if err := reach(context.Background(), *page); err != nil {
			fmt.Fprintf(os.Stderr, "lint: %v\n", err)
			os.Exit(1)
		}
		return
	}
	root := "."
	if flag.NArg() > 0 {
		root = flag.Arg(0)
	}
	tree, err := read(root)
	if err != nil {
		fmt.Fprintf(os.Stderr, "lint: %v\n", err)
		os.Exit(1)
	}
	breaches := tree.check()
	if n := len(tree.packages); n < leastPackages {
		breaches = append(breaches, breach{root, 0, fmt.Sprintf("only %d packages found, there are at least %d", n, leastPackages)})
	}
	for _, b := range breaches {
		fmt.Fprintln(os.Stderr, b)
	}
	if len(breaches) > 0 {
		fmt.Fprintf(os.Stderr, "lint: %d breaches of the house rules\n", len(breaches))
		os.Exit(1)
	}
	fmt.Printf("lint: %d packages, %d files, no breach of the house rules\n", len(tree.packages), tree.files())
}
