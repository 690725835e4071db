#!/usr/bin/env bash
# mpi_check.sh KLENS KLENS_MPI MPIEXEC MODEL TOKENS PADDED_MODEL PADDED_TOKENS: klens-mpi gives the scores of klens, byte for byte,
# also where padding does not count, and refuses what takes all sequences together. Run in a folder that may be written to.
set -uo pipefail
rm -f at.* ./*.json ./*.txt  # of an earlier run
klens=$1 klens_mpi=$2 mpiexec=$3 model=$4 tokens=$5 padded=(rank "$6" --tokens "$7" --batch 1 --schemes int4-channel)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none  # containers forbid it, and Open MPI says so on stderr

scan=(rank "$model" --tokens "$tokens" --length 32 --batch 1 --schemes int4-channel,int8-channel --layers 'layers\.[01]\.')
fail() { echo "mpi_check: $*"; exit 1; }

# What does not depend on how the work was shared.
essence() { grep -vE '"(seconds|peak_bytes|forwards)": ' "$1"; }

"$klens" "${scan[@]}" --sequences 7 --output whole.json >/dev/null || fail "klens rank failed"
for processes in 1 3; do
  "$mpiexec" -n "$processes" "$klens_mpi" "${scan[@]}" --sequences 7 --output shared.json >report.txt || fail "klens-mpi failed"
  diff <(essence whole.json) <(essence shared.json) || fail "$processes processes give other scores"
  grep -q '^untouched model: ' report.txt || fail "there is no report"
  (($(grep -c '^untouched model: ' report.txt) == 1)) || fail "the report stands there more than once"
done

"$klens" "${padded[@]}" --output whole-padded.json >/dev/null || fail "klens rank with padding failed"
"$mpiexec" -n 3 "$klens_mpi" "${padded[@]}" --output shared-padded.json >report.txt || fail "klens-mpi with padding failed"
diff <(essence whole-padded.json) <(essence shared-padded.json) || fail "3 processes give other scores of padded tokens"
grep -q 'of them padding (66 positions)' report.txt || fail "the report does not say how many positions count"

refused() {
  local why=$1
  "$mpiexec" -n 2 "$klens_mpi" "${scan[@]}" "${@:2}" >/dev/null 2>errors.txt && fail "${*:2} was not refused"
  grep -q -- "$why" errors.txt || { cat errors.txt; fail "${*:2} was refused for another reason than '$why'"; }
}
refused '2 processes share 1 sequences' --sequences 1
refused '--stop: ' --sequences 7 --stop split:0.5
refused '--positions: ' --sequences 7 --positions 20
refused '--method local: ' --sequences 7 --method local

# A checkpoint for each process: taken up, the scan ends as it did.
for _ in 1 2; do
  "$mpiexec" -n 2 "$klens_mpi" "${scan[@]}" --sequences 7 --checkpoint at --output shared.json >/dev/null || fail "with --checkpoint"
  diff <(essence whole.json) <(essence shared.json) || fail "a scan with checkpoints gives other scores"
done
[[ -e at.0-of-2 && -e at.1-of-2 ]] || fail "there are no checkpoints"
