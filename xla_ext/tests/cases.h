// Cases that chance would seldom meet, one function each.
#ifndef AQUA_TESTS_CASES_H_
#define AQUA_TESTS_CASES_H_

namespace aqua::harness {

void RunCases();

}  // namespace aqua::harness
#endif  // AQUA_TESTS_CASES_H_
