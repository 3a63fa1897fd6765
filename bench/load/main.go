// Command load puts load on a chinwag server, or on bench/reference.py, and checks every
// delivery. The harness in bench/*.py starts it, one process a scenario:
//
//	load SCENARIO -spec FILE [flags]
//
// The spec names the address, the devices with their tokens and the channels. On stdout come the
// lines "ready", "begin" and "end", at which the harness reads the server's CPU and memory, and
// then one JSON object. After each of these it waits for a line on stdin (-wait). What counts lies
// between a "begin" and the next "end"; there may be several pairs. It exits with 1 when a
// delivery was wrong, missing or twice.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"strings"
	"syscall"
	"time"
)

// Options are what all scenarios take; each uses those that it needs.
type Options struct {
	Spec           Spec
	Rate           float64
	Batch          int
	Window         int
	Senders        int
	Size           int
	Count          int
	StreamsPerConn int
	Warmup         time.Duration
	Length         time.Duration
	Drain          time.Duration
	Gap            time.Duration
	Marks          time.Duration
	Probe          bool
	Receipts       bool
	Both           bool
	Wait           bool
}

// Scenario measures something: it returns what to print and what went wrong.
type Scenario func(*Options) (result any, problems []string, err error)

var scenarios = map[string]Scenario{
	"traffic":  runTraffic,
	"oneone":   runOneOne,
	"idle":     runIdle,
	"resume":   runResume,
	"pages":    runPages,
	"comeback": runComeback,
	"receipts": runReceipts,
}

func main() {
	if len(os.Args) < 2 || scenarios[os.Args[1]] == nil {
		names := make([]string, 0, len(scenarios))
		for name := range scenarios {
			names = append(names, name)
		}
		sort.Strings(names)
		fail(fmt.Errorf("usage: load %s -spec FILE [flags]", strings.Join(names, "|")))
	}
	name := os.Args[1]
	options := parse(name, os.Args[2:])

	// Many small frames: collect garbage seldom, so that the load takes little from the server.
	debug.SetGCPercent(800)
	debug.SetMemoryLimit(4 << 30)
	result, problems, err := scenarios[name](options)
	if err != nil {
		fail(err)
	}
	if len(problems) > 20 {
		problems = append(problems[:20], fmt.Sprintf("and %d more", len(problems)-20))
	}
	output, err := json.Marshal(map[string]any{
		"scenario": name, "result": result, "problems": problems, "load_cpu_s": cpuSeconds(),
	})
	if err != nil {
		fail(err)
	}
	fmt.Println(string(output))
	if len(problems) > 0 {
		os.Exit(1)
	}
}

func parse(name string, args []string) *Options {
	o := &Options{}
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	spec := flags.String("spec", "", "JSON file: address, devices, channels")
	flags.Float64Var(&o.Rate, "rate", 0, "sends a second in all, open loop; 0: saturated, see -window")
	flags.IntVar(&o.Batch, "batch", 1, "sends a frame")
	flags.IntVar(&o.Window, "window", 100, "saturated: sends of one sender without an answer")
	flags.IntVar(&o.Senders, "senders", 0, "senders in a channel, its first members; 0: all")
	flags.IntVar(&o.Size, "size", 100, "bytes of a text")
	flags.IntVar(&o.Count, "count", 500, "how many times; comeback: messages in each channel")
	flags.IntVar(&o.StreamsPerConn, "streams", 1, "streams a TCP connection")
	flags.DurationVar(&o.Warmup, "warmup", 2*time.Second, "traffic before the measured window")
	flags.DurationVar(&o.Length, "length", 10*time.Second, "the measured window")
	flags.DurationVar(&o.Drain, "drain", 30*time.Second, "how long the last deliveries may take")
	flags.DurationVar(&o.Gap, "gap", 10*time.Millisecond, "oneone: pause between two sends")
	flags.DurationVar(&o.Marks, "marks", 0, "each device marks what it has read so often, and gets receipts; 0: never")
	flags.BoolVar(&o.Probe, "probe", false, "let grpc-go probe the bandwidth instead of fixed windows")
	flags.BoolVar(&o.Both, "both", false, "oneone: send in both directions in turn")
	flags.BoolVar(&o.Wait, "wait", false, "wait for a line on stdin after each mark")
	_ = flags.Parse(args)
	data, err := os.ReadFile(*spec)
	if err != nil {
		fail(err)
	}
	if err := json.Unmarshal(data, &o.Spec); err != nil {
		fail(fmt.Errorf("%s: %w", *spec, err))
	}
	if err := o.Spec.check(); err != nil {
		fail(fmt.Errorf("%s: %w", *spec, err))
	}
	if o.Batch < 1 || o.Window < o.Batch {
		fail(fmt.Errorf("want 1 <= batch <= window, got batch %d and window %d", o.Batch, o.Window))
	}
	return o
}

var stdin = bufio.NewReader(os.Stdin)

// mark tells the harness that the load has come to one of its marks, and waits for its word.
func mark(o *Options, name string) {
	fmt.Println(name)
	if o.Wait {
		_, _ = stdin.ReadString('\n')
	}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(2)
}
