package main

import (
	"fmt"
	"time"
)

// IdleResult is how long the devices took to connect.
type IdleResult struct {
	Devices  int     `json:"devices"`
	ConnectS float64 `json:"connect_s"`
}

// runIdle connects all devices, between "begin" and "ready", and keeps them until the harness
// has looked.
func runIdle(o *Options) (any, []string, error) {
	fmt.Println("begin")
	start := now()
	fleet, err := connect(o, 0)
	if err != nil {
		return nil, nil, err
	}
	took := time.Duration(now() - start)
	ready(o)
	fmt.Println("end")
	problems := fleet.close()
	return IdleResult{Devices: len(fleet.devices), ConnectS: took.Seconds()}, problems, nil
}
