// Command kstatus reads Kubernetes objects as JSON, one per line, from stdin and prints what kstatus says of each, one
// JSON object per line: {"status": "Current", "message": "..."}.
//
// It exists so that tests ask the real library, which Flux, kpt and others decide by, instead of a copy of its rules. It
// talks to no cluster.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func run(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	answers := json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		} else if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("failed to read: %w", err)
		}
		// Unstructured's own decoder: it keeps integers as int64, which the library's rules compare.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(line); err != nil {
			return fmt.Errorf("failed to decode an object: %w", err)
		}
		result, err := status.Compute(object)
		if err != nil {
			return fmt.Errorf("failed to compute the status of %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if err := answers.Encode(answer{result.Status.String(), result.Message}); err != nil {
			return fmt.Errorf("failed to write: %w", err)
		}
	}
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}
