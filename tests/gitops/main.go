// Command gitops reads Kubernetes objects as JSON, one per line, from stdin and prints what the samples in deploy/gitops make
// of each, one JSON object per line:
//
//	gitops deploy/gitops/argocd/health.lua deploy/gitops/flux/benchmarks.yaml
//	{"argocd":{"status":"Healthy","message":"Completed: ..."},"flux":"Current"}
//
// It runs the files as they are shipped, and does around them what Argo CD (util/lua/lua.go, gitops-engine/pkg/health) and
// Flux (fluxcd/pkg/runtime/cel) do, so that tests ask the interpreters instead of a copy of the rules. Neither library is
// imported: both bring half of Kubernetes with them. It talks to no cluster.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	luajson "layeh.com/gopher-json"
)

type answer struct {
	ArgoCD health `json:"argocd"`
	// Current, InProgress or Failed; Unknown where an expression cannot be evaluated: Flux then goes on waiting.
	Flux string `json:"flux"`
	// Why Unknown.
	FluxMessage string `json:"fluxMessage,omitempty"`
}

// Argo CD's HealthStatus.
type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	// What a script may say instead of "Pending deletion"; never shown by itself.
	DeletionMessage string `json:"deletionMessage,omitempty"`
}

// How long Argo CD lets a script run.
const luaLimit = time.Second

// argoCD says how healthy an object is: the script's answer, or that the object is going.
func argoCD(script string, object *unstructured.Unstructured) health {
	said, err := runHealth(script, object)
	if err != nil {
		return health{Status: "Unknown", Message: err.Error()}
	}
	if object.GetDeletionTimestamp() == nil || slices.Contains(object.GetFinalizers(), "argocd.argoproj.io/hook-finalizer") {
		return health{Status: said.Status, Message: said.Message}
	}
	if said.DeletionMessage != "" {
		return health{Status: said.Status, Message: said.DeletionMessage}
	}
	going := "Pending deletion"
	if finalizers := object.GetFinalizers(); len(finalizers) > 0 {
		going += "; blocked by finalizers: " + strings.Join(finalizers, ", ")
	}
	return health{Status: "Progressing", Message: going}
}

// runHealth runs a script of argocd-cm. Of the libraries it has `package`, `base` and `table`: Argo CD opens string and math
// only where `resource.customizations.useOpenLibs` says so. (It also offers `require("os")` for the time; not here.)
func runHealth(script string, object *unstructured.Unstructured) (health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return health{}, err
		}
	}
	limited, cancel := context.WithTimeout(context.Background(), luaLimit)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("obj", luaValue(state, object.Object))
	if err := state.DoString(script); err != nil {
		return health{}, err
	}
	returned := state.Get(-1)
	if returned.Type() != lua.LTTable {
		return health{}, fmt.Errorf("expect table output from Lua script, not %s", returned.Type())
	}
	document, err := luajson.Encode(returned)
	if err != nil {
		return health{}, err
	}
	var said health
	if err := json.Unmarshal(document, &said); err != nil {
		return health{}, err
	}
	switch said.Status {
	case "Unknown", "Progressing", "Suspended", "Healthy", "Degraded", "Missing":
		return said, nil
	}
	return health{Status: "Unknown", Message: "Lua returned an invalid health status"}, nil
}

// luaValue is a JSON value as Lua sees it: whole numbers are numbers, null is nil.
func luaValue(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		list := state.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(luaValue(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetH(lua.LString(key), luaValue(state, item))
		}
		return table
	}
	return lua.LNil
}

// check is one expression of Flux, and what an object is where it is true.
type check struct {
	status  string
	text    string
	program cel.Program
}

// kustomization is what counts here of a Kustomization.
type kustomization struct {
	Spec struct {
		HealthCheckExprs []struct{ APIVersion, Kind, Current, Failed, InProgress string }
	}
}

// readChecks reads the expressions of every Kustomization in a file, by the kind they are for.
func readChecks(file io.Reader) (map[schema.GroupKind][]check, error) {
	checks := map[schema.GroupKind][]check{}
	documents := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		var document kustomization
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			return checks, nil
		} else if err != nil {
			return nil, err
		}
		for _, exprs := range document.Spec.HealthCheckExprs {
			group, err := schema.ParseGroupVersion(exprs.APIVersion)
			if err != nil {
				return nil, err
			}
			if exprs.Current == "" {
				return nil, fmt.Errorf("%s %s: current is not specified", exprs.APIVersion, exprs.Kind)
			}
			// Flux's order: the first one that is true says it.
			for _, one := range []check{
				{status: "InProgress", text: exprs.InProgress},
				{status: "Failed", text: exprs.Failed},
				{status: "Current", text: exprs.Current},
			} {
				if one.text == "" {
					continue
				}
				if one.program, err = compile(one.text); err != nil {
					return nil, err
				}
				kind := schema.GroupKind{Group: group.Group, Kind: exprs.Kind}
				checks[kind] = append(checks[kind], one)
			}
		}
	}
}

// compile parses an expression without checking types, in the environment that Flux gives it.
func compile(text string) (cel.Program, error) {
	environment, err := cel.NewEnv(
		cel.HomogeneousAggregateLiterals(),
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		ext.Strings(),
		ext.Sets(),
		ext.Encoders(),
	)
	if err != nil {
		return nil, err
	}
	parsed, issues := environment.Parse(text)
	if issues != nil {
		return nil, fmt.Errorf("failed to parse the CEL expression '%s': %s", text, issues.String())
	}
	return environment.Program(parsed, cel.EvalOptions(cel.OptOptimize), cel.InterruptCheckFrequency(100))
}

// flux says how far an object is: a generation that nobody has observed comes before every expression.
func flux(checks []check, object *unstructured.Unstructured) (string, error) {
	content := object.UnstructuredContent()
	observed, is, err := unstructured.NestedInt64(content, "status", "observedGeneration")
	if err == nil && is {
		generation, is, err := unstructured.NestedInt64(content, "metadata", "generation")
		if err == nil && is && observed != generation {
			return "InProgress", nil
		}
	}
	for _, one := range checks {
		value, _, err := one.program.ContextEval(context.Background(), content)
		if err != nil {
			return "Unknown", fmt.Errorf("failed to evaluate the CEL expression '%s': %w", one.text, err)
		}
		truth, is := value.(types.Bool)
		if !is {
			return "Unknown", fmt.Errorf("failed to evaluate CEL expression as boolean: '%s'", one.text)
		}
		if bool(truth) {
			return one.status, nil
		}
	}
	return "InProgress", nil
}

func ask(script string, checks map[schema.GroupKind][]check, object *unstructured.Unstructured) (answer, error) {
	kind := object.GroupVersionKind().GroupKind()
	if len(checks[kind]) == 0 {
		return answer{}, fmt.Errorf("there are no healthCheckExprs for %s", kind)
	}
	said := answer{ArgoCD: argoCD(script, object)}
	var err error
	if said.Flux, err = flux(checks[kind], object); err != nil {
		said.FluxMessage = err.Error()
	}
	return said, nil
}

func run(script string, checks map[schema.GroupKind][]check, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	answers := json.NewEncoder(out)
	answers.SetEscapeHTML(false)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		} else if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("failed to read: %w", err)
		}
		// Unstructured's own decoder: it keeps integers as int64, as both tools see them.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(line); err != nil {
			return fmt.Errorf("failed to decode an object: %w", err)
		}
		said, err := ask(script, checks, object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if err := answers.Encode(said); err != nil {
			return fmt.Errorf("failed to write: %w", err)
		}
	}
}

// load reads the two samples.
func load(healthLua, fluxYAML string) (string, map[schema.GroupKind][]check, error) {
	script, err := os.ReadFile(healthLua)
	if err != nil {
		return "", nil, err
	}
	file, err := os.Open(fluxYAML)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	checks, err := readChecks(file)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", fluxYAML, err)
	}
	return string(script), checks, nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gitops HEALTH.lua FLUX.yaml < objects")
		os.Exit(2)
	}
	script, checks, err := load(os.Args[1], os.Args[2])
	if err == nil {
		err = run(script, checks, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}
