-- Health of a BenchmarkRun (lockstep.dev/v1alpha1) in Argo CD.
--
-- The resource follows kstatus: observedGeneration, Reconciling, Stalled, Ready. This script says the same and two things
-- more: what is suspended is Suspended, and a run that nobody can judge says so in its message. It reads conditions and
-- observedGeneration alone; `phase` and `verdict` are words for people. Whatever it does not know is Progressing.
--
-- The standard libraries of Lua are off for scripts in argocd-cm: no string, no math.

local function answer(status, message)
  return { status = status, message = message }
end

local function is_table(value)
  return type(value) == "table"
end

if not is_table(obj.status) or not is_table(obj.status.conditions) then
  return answer("Progressing", "no operator has looked at the run yet")
end
if not is_table(obj.metadata) or obj.status.observedGeneration ~= obj.metadata.generation then
  return answer("Progressing", "the operator has not looked at the latest spec yet")
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  if is_table(condition) and type(condition.type) == "string" then
    conditions[condition.type] = condition
  end
end

local function is(name, truth)
  return conditions[name] ~= nil and conditions[name].status == truth
end

-- "Reason: message" of a condition, or as much of it as there is.
local function said(name)
  local condition = conditions[name] or {}
  local reason, message = condition.reason, condition.message
  if type(reason) ~= "string" or reason == "" then
    reason = name
  end
  if type(message) ~= "string" or message == "" then
    return reason
  end
  return reason .. ": " .. message
end

if is("Finished", "True") then
  -- Also a run that measured everything and breached a threshold.
  if is("Failed", "True") then
    return answer("Degraded", said("Failed"))
  end
  if is("Complete", "True") and is("Passed", "True") then
    return answer("Healthy", said("Complete"))
  end
  -- Partial or Inconclusive: it satisfies its policy, and nobody can say whether the thresholds hold.
  if is("Complete", "True") then
    return answer("Healthy", "not judged, " .. said("Passed"))
  end
  return answer("Progressing", "the run is finished in a way that this check does not know")
end

-- While a live run is being suspended it still works: Reconciling stays until its agents are gone.
if is("Suspended", "True") and not is("Reconciling", "True") then
  return answer("Suspended", said("Suspended"))
end
if conditions["Reconciling"] ~= nil then
  return answer("Progressing", said("Reconciling"))
end
return answer("Progressing", said("Ready"))
