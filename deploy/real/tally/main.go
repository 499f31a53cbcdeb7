// Command tally counts the CDNOW purchases straight from the text file: rows, customers and cents a month. It shares no code with the
// product, so that what the product loaded can be held against it.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

type sums struct {
	Rows      int            `json:"rows"`
	Customers int            `json:"customers"`
	Cents     map[string]int `json:"cents"` // by month, YYYY-MM
	seen      map[string]bool
}

func (s *sums) add(customer, month string, cents int) {
	s.Rows++
	s.Cents[month] += cents
	if !s.seen[customer] {
		s.seen[customer] = true
		s.Customers++
	}
}

func main() {
	file := flag.String("file", "../shared/data/cdnow/CDNOW_master.txt", "CDNOW_master.txt")
	days := flag.Int("shift", 0, "days to add to each date")
	without := flag.String("without", "", "customers to leave out, as the file spells their numbers, with commas between")
	flag.Parse()
	if err := run(*file, *days, strings.Split(*without, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

func run(file string, days int, without []string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	all := &sums{Cents: map[string]int{}, seen: map[string]bool{}}
	consenting := &sums{Cents: map[string]int{}, seen: map[string]bool{}}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		col := strings.Fields(lines.Text())
		if len(col) != 4 {
			return fmt.Errorf("a line has %d columns", len(col))
		}
		id, err := strconv.Atoi(col[0])
		if err != nil {
			continue // the head of the file
		}
		if slices.Contains(without, col[0]) {
			continue
		}
		date, err := time.Parse("20060102", col[1])
		if err != nil {
			return err
		}
		cents, err := strconv.Atoi(strings.Replace(col[3], ".", "", 1))
		if err != nil || !strings.Contains(col[3], ".") || len(col[3])-strings.Index(col[3], ".") != 3 {
			return fmt.Errorf("amount %q is not dollars and cents", col[3])
		}
		month := date.AddDate(0, 0, days).Format("2006-01")
		all.add(col[0], month, cents)
		if id%3 != 0 {
			consenting.add(col[0], month, cents)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]*sums{"all": all, "consenting": consenting})
}
