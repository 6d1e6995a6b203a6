# Completion of ordinalctl for bash. All that it knows comes from `ordinalctl __complete`.

_ordinalctl() {
  local current=${COMP_WORDS[COMP_CWORD]} line words typed cut
  # What stands between blanks: bash cuts COMP_WORDS at `=` and `:` too.
  read -ra words <<<"${COMP_LINE:0:COMP_POINT}"
  [[ ${COMP_LINE:0:COMP_POINT} == *[[:blank:]] ]] && words+=("")
  typed=${words[-1]}
  # Bash puts a candidate in place of its own last word: what stands before that is taken off.
  [[ $current == [=:] ]] && current=
  cut=$((${#typed} - ${#current}))

  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :files) compopt -o filenames 2>/dev/null; while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$current") ;;
      :directories) compopt -o filenames 2>/dev/null; while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$current") ;;
      *)
        line=${line%%$'\t'*}
        COMPREPLY+=("${line:cut}")
        ;;
    esac
  done < <("${COMP_WORDS[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _ordinalctl ordinalctl
